/* mlx_lm.server: Apple's machines only, hence never in a container. */
#include "instance/backend_option.h"

static const struct option_row rows[] = {
    {"model", OPTION_TEXT, NULL},
    {"host", OPTION_TEXT, NULL},
    {"port", OPTION_PORT, NULL},
    {"adapter_path", OPTION_TEXT, NULL},
    {"draft_model", OPTION_TEXT, NULL},
    {"num_draft_tokens", OPTION_INT, NULL},
    {"trust_remote_code", OPTION_BOOL, NULL},
    {"log_level", OPTION_TEXT, NULL},
    {"chat_template", OPTION_TEXT, NULL},
    {"use_default_chat_template", OPTION_BOOL, NULL},
    {"temp", OPTION_FLOAT, NULL},
    {"top_p", OPTION_FLOAT, NULL},
    {"top_k", OPTION_INT, NULL},
    {"min_p", OPTION_FLOAT, NULL},
    {"max_tokens", OPTION_INT, NULL},
    {"chat_template_args", OPTION_TEXT, NULL},
    {0},
};

static const struct option_alias aliases[] = {{0}};

static const char *const programs[] = {"mlx_lm.server", NULL};

static const struct option_table table = {.rows = rows, .aliases = aliases, .programs = programs};

json_t *mlx_lm_canonical(const json_t *options, struct err *err)
{
    return option_canonical(&table, options, err);
}

const char *mlx_lm_program(struct backend_launch *launch, const json_t *options)
{
    (void)launch;
    (void)options;
    return programs[0];
}

bool mlx_lm_arguments(struct backend_launch *launch, const json_t *options, struct err *err)
{
    (void)err;
    launch_add_configured(launch);
    option_arguments(&table, launch, options, NULL);
    return true;
}

json_t *mlx_lm_parse(struct str command, struct err *err)
{
    return option_parse(&table, command, err);
}

/* Another name than its own makes it load another model. */
const char *mlx_lm_served_model(const json_t *options)
{
    return json_string_value(json_object_get(options, "model"));
}
