/* Our own worker. All of its options are known (worker/main.c), so an unknown one is refused here instead of at the
 * start; llama-server's names for the same things are taken, too. What its supervisor decides (--socket, --supervised,
 * --notify-fd, --engine) is appended by the supervisor. */
#include "instance/backend_option.h"

static const struct option_row rows[] = {
    {"model", OPTION_TEXT, NULL},
    {"alias", OPTION_TEXT, NULL},
    {"context_size", OPTION_INT, NULL},
    {"parallel", OPTION_INT, NULL},
    {"batch_size", OPTION_INT, NULL},
    {"ubatch_size", OPTION_INT, NULL},
    {"threads", OPTION_INT, NULL},
    {"gpu_layers", OPTION_COUNT, NULL},
    {"gpu", OPTION_TEXT, NULL},
    {"gpu_device", OPTION_TEXT, NULL},
    {"gpu_memory_mb", OPTION_TEXT, NULL},
    {"flash_attention", OPTION_TEXT, NULL},
    {"kv_type", OPTION_TEXT, NULL},
    {"kv_memory_mb", OPTION_TEXT, NULL},
    {"kv_disk_mb", OPTION_INT, NULL},
    {"lookup", OPTION_TEXT, NULL},
    {"mmap", OPTION_NEGATIVE, NULL},
    {"mlock", OPTION_BOOL, NULL},
    {"pooling", OPTION_TEXT, NULL},
    {"mmproj", OPTION_TEXT, NULL},
    {"lora", OPTION_MULTI, NULL},
    {"queue_size", OPTION_INT, NULL},
    {"request_timeout", OPTION_INT, NULL},
    {"max_tokens", OPTION_INT, NULL},
    {"chat_template", OPTION_TEXT, NULL},
    {"temperature", OPTION_FLOAT, NULL},
    {"completion_temperature", OPTION_FLOAT, NULL},
    {"top_p", OPTION_FLOAT, NULL},
    {"max_body_mb", OPTION_INT, NULL},
    {"log_level", OPTION_TEXT, NULL},
    {"log_format", OPTION_TEXT, NULL},
    {0},
};

static const struct option_alias aliases[] = {
    {"m", "model"},
    {"a", "alias"},
    {"c", "context_size"},
    {"ctx_size", "context_size"},
    {"np", "parallel"},
    {"n_parallel", "parallel"},
    {"b", "batch_size"},
    {"ub", "ubatch_size"},
    {"t", "threads"},
    {"ngl", "gpu_layers"},
    {"n_gpu_layers", "gpu_layers"},
    {"dev", "gpu_device"},
    {"device", "gpu_device"},
    {"fa", "flash_attention"},
    {"flash_attn", "flash_attention"},
    {"mm", "mmproj"},
    {"ctk", "kv_type"},
    {"cache_type_k", "kv_type"},
    {"timeout", "request_timeout"},
    {"n_predict", "max_tokens"},
    {"predict", "max_tokens"},
    {"chat_template_file", "chat_template"},
    {"temp", "temperature"},
    {0},
};

static const char *const programs[] = {"inferd", NULL};

static const struct option_table table = {
    .rows = rows, .aliases = aliases, .programs = programs, .subcommand = "worker", .strict = true};

json_t *worker_canonical(const json_t *options, struct err *err)
{
    json_t *result = option_canonical(&table, options, err);
    if (!result || json_string_length(json_object_get(result, "model")) > 0)
        return result;
    json_decref(result);
    err_set_param(err, ERR_INVALID_PARAMETERS, "backend_options.model",
                  "'backend_options.model' is required: the path of a GGUF file");
    return NULL;
}

const char *worker_program(struct backend_launch *launch, const json_t *options)
{
    (void)options;
    return launch->in->program;
}

/* A worker whose options do not name it is called as its instance, so that replies name what was asked for. */
bool worker_arguments(struct backend_launch *launch, const json_t *options, struct err *err)
{
    (void)err;
    launch_add_configured(launch);
    option_arguments(&table, launch, options, NULL);
    if (launch->in->name && json_string_length(json_object_get(options, "alias")) == 0) {
        launch_add(launch, "--alias");
        launch_add(launch, launch->in->name);
    }
    return true;
}

json_t *worker_parse(struct str command, struct err *err)
{
    json_t *options = option_parse(&table, command, err);
    json_t *result = options ? worker_canonical(options, err) : NULL;
    json_decref(options);
    return result;
}

/* It serves one model and does not look at the name. */
const char *worker_served_model(const json_t *options)
{
    (void)options;
    return NULL;
}
