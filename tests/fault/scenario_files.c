/* Files: a configuration, a model's header, a folder of models. Each scenario makes what it reads and removes it
 * again with calls that are not counted as its own (they belong to no layer that is tested). */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "conf/conf.h"
#include "fault/scenario.h"
#include "instance/model.h"
#include "obs/log.h"
#include "registry/gguf.h"

/* ---- configuration ---- */

static const char conf_text[] = "models_dir = '/m'\nimport_dirs = ['/a', \"/b\"]\n[server]\nport = 9\n"
                                "[models.\"a/b:c\"]\naliases = ['x', 'y']\npin = true\n";

static char *path_of(const char *name, char path[200])
{
    snprintf(path, 200, "%s/%s", scenario_folder, name);
    return path;
}

static void put_file(const char *name, const char *bytes, size_t n)
{
    char path[200];
    int fd = openat(AT_FDCWD, path_of(name, path), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || pwrite(fd, bytes, n, 0) != (ssize_t)n)
        abort();
    close(fd);
}

static void remove_file(const char *name)
{
    char path[200];
    unlink(path_of(name, path));
}

static bool conf_is_right(const struct conf *conf)
{
    const struct conf_model *m = conf_model_find(conf, STR("a/b:c"));
    return strcmp(conf->models_dir, "/m") == 0 && strcmp(conf->import_dirs[1], "/b") == 0 && !conf->import_dirs[2] &&
           conf->port == 9 && m && strcmp(m->aliases[1], "y") == 0 && conf->file_count == 1;
}

static enum outcome run_conf(void)
{
    struct conf conf;
    struct err err = ERR_INIT;
    char path[200];
    put_file("conf.toml", conf_text, sizeof conf_text - 1);
    conf_init(&conf);
    bool good = conf_read_file(&conf, path_of("conf.toml", path), &err);
    enum outcome outcome = !good ? scenario_failed(&err) : conf_is_right(&conf) ? OUTCOME_PASSED : OUTCOME_WRONG;
    conf_release(&conf);
    remove_file("conf.toml");
    return outcome;
}

const struct scenario conf_scenario = {"conf", run_conf};

/* ---- one model's header ---- */

static enum outcome run_gguf(void)
{
    struct gguf gguf;
    struct err err = ERR_INIT;
    if (!gguf_read(scenario_gguf, &gguf, &err))
        return scenario_failed(&err);
    return strcmp(gguf.architecture, "llama") == 0 && gguf.tensor_count ? OUTCOME_PASSED : OUTCOME_WRONG;
}

const struct scenario gguf_scenario = {"gguf", run_gguf};

/* ---- folders of models ---- */

static const char *const files[] = {"one.gguf", "two.gguf", "sub/three.gguf"};

static void copy_model(const char *name)
{
    char bytes[65536], path[200];
    int from = openat(AT_FDCWD, scenario_gguf, O_RDONLY | O_CLOEXEC);
    int to = openat(AT_FDCWD, path_of(name, path), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (from < 0 || to < 0)
        abort();
    for (off_t at = 0, n = 1; n > 0; at += n) {
        n = preadv(from, &(struct iovec){bytes, sizeof bytes}, 1, at);
        if (n < 0 || pwrite(to, bytes, (size_t)n, at) != n)
            abort();
    }
    close(from);
    close(to);
}

static bool was_logged(void)
{
    struct stat info;
    char path[200];
    return fstatat(AT_FDCWD, path_of("log", path), &info, 0) == 0 && info.st_size > 0;
}

/* What is missing must have been complained about: the catalogue itself has no word for a folder it could not read. */
static enum outcome judge(const struct model_catalogue *c)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->models[i].problem.code != ERR_NONE)
            return scenario_failed(&c->models[i].problem);
    if (c->count == sizeof files / sizeof *files)
        return OUTCOME_PASSED;
    return was_logged() ? OUTCOME_CLEAN : OUTCOME_SILENT;
}

static enum outcome run_catalogue(void)
{
    struct conf conf;
    struct err err = ERR_INIT;
    char path[200];
    remove_file("log");
    if (!log_to_file(path_of("log", path), &err))
        return scenario_failed(&err);
    mkdir(path_of("sub", path), 0700);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        copy_model(files[i]);
    conf_init(&conf);
    conf.models_dir = scenario_folder;
    struct model_catalogue *c = model_catalogue_scan(&conf, NULL);
    enum outcome outcome = judge(c);
    model_catalogue_free(c);
    conf_release(&conf);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        remove_file(files[i]);
    remove_file("log");
    rmdir(path_of("sub", path));
    return outcome;
}

const struct scenario catalogue_scenario = {"catalogue", run_catalogue};
