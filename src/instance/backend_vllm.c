/* vllm serve. Its options change with every release, so only those are typed that mean the same everywhere; the others
 * pass through extra_args. */
#include "instance/backend_option.h"

static const struct option_row rows[] = {
    {"host", OPTION_TEXT, NULL},
    {"port", OPTION_PORT, NULL},
    {"model", OPTION_TEXT, NULL},
    {"served_model_name", OPTION_TEXT, NULL},
    {"dtype", OPTION_TEXT, NULL},
    {"quantization", OPTION_TEXT, NULL},
    {"max_model_len", OPTION_COUNT, NULL},
    {"tensor_parallel_size", OPTION_INT, NULL},
    {"pipeline_parallel_size", OPTION_INT, NULL},
    {"gpu_memory_utilization", OPTION_FLOAT, NULL},
    {"max_num_seqs", OPTION_COUNT, NULL},
    {"max_num_batched_tokens", OPTION_COUNT, NULL},
    {"enable_prefix_caching", OPTION_SWITCH, NULL},
    {"enforce_eager", OPTION_BOOL, NULL},
    {"trust_remote_code", OPTION_BOOL, NULL},
    {"seed", OPTION_INT, NULL},
    {"chat_template", OPTION_TEXT, NULL},
    {"enable_auto_tool_choice", OPTION_BOOL, NULL},
    {"tool_call_parser", OPTION_TEXT, NULL},
    {"api_key", OPTION_MULTI, NULL},
    {"allowed_origins", OPTION_MULTI, NULL},
    {"allowed_methods", OPTION_MULTI, NULL},
    {"allowed_headers", OPTION_MULTI, NULL},
    {"middleware", OPTION_MULTI, NULL},
    {0},
};

static const struct option_alias aliases[] = {
    {"tp", "tensor_parallel_size"}, {"pp", "pipeline_parallel_size"}, {"q", "quantization"}, {0}};

static const char *const programs[] = {"vllm", NULL};

static const struct option_table table = {
    .rows = rows, .aliases = aliases, .programs = programs, .subcommand = "serve"};

json_t *vllm_canonical(const json_t *options, struct err *err)
{
    return option_canonical(&table, options, err);
}

const char *vllm_program(struct backend_launch *launch, const json_t *options)
{
    (void)launch;
    (void)options;
    return programs[0];
}

/* `vllm serve MODEL ...`; the container's entry point has "serve" in it and takes --model. */
bool vllm_arguments(struct backend_launch *launch, const json_t *options, struct err *err)
{
    const struct conf_backend *conf = launch->in->conf;
    const char *model = json_string_value(json_object_get(options, "model"));
    (void)err;
    launch_add_configured(launch);
    if (launch->docker) {
        option_arguments(&table, launch, options, NULL);
        return true;
    }
    if (!conf || !conf->args[0])
        launch_add(launch, "serve");
    if (model && *model)
        launch_add(launch, arena_strdup(launch->arena, model));
    option_arguments(&table, launch, options, "model");
    return true;
}

json_t *vllm_parse(struct str command, struct err *err)
{
    return option_parse(&table, command, err);
}

/* It refuses other names than its own. */
const char *vllm_served_model(const json_t *options)
{
    const char *name = json_string_value(json_object_get(options, "served_model_name"));
    return name && *name ? name : json_string_value(json_object_get(options, "model"));
}
