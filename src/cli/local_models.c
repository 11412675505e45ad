#include "cli/local_models.h"

#include <sys/stat.h>

bool local_models_open(struct local_models *local, const char *config, struct err *err)
{
    local->catalogue = NULL;
    if (!conf_load(&local->conf, config, err) || !conf_finish(&local->conf, err))
        return false;
    local->catalogue = model_catalogue_scan(&local->conf, NULL);
    return true;
}

void local_models_close(struct local_models *local)
{
    model_catalogue_free(local->catalogue);
    conf_release(&local->conf);
}

static bool is_file(const char *name)
{
    struct stat info;
    return strchr(name, '.') && stat(name, &info) == 0 && S_ISREG(info.st_mode);
}

bool local_models_find(const struct local_models *local, const char *name, struct model *ret_model, struct err *err)
{
    if (is_file(name)) {
        *ret_model = (struct model){.id = name, .path = name, .problem = ERR_INIT};
        model_read_tuned(ret_model, &local->conf);
        return gguf_read(name, &ret_model->gguf, err);
    }
    const struct model *found = model_find(local->catalogue, str_from(name));
    if (!found) {
        model_not_found(local->catalogue, str_from(name), err);
        return false;
    }
    if (found->upstream)
        return err_set(err, ERR_MODEL_NOT_FOUND, "'%s' runs on another server; there is no file to look at", name);
    *ret_model = *found;
    *err = found->problem;
    return found->problem.code == ERR_NONE;
}
