#include "cli/api_client.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/show_fit.h"

#include <sys/stat.h>

#include "base/json_read.h"
#include "base/mem.h"
#include "registry/gguf.h"

static const struct cli_option options[] = {
    CLI_OPTION_URL,
    CLI_OPTION_JSON,
    {"fit", 0, NULL, "what memory it takes here, and whether it fits; asks no server"},
    {"context-size", 0, "N", "with --fit: tokens of the context; default: as configured"},
    {"config", 'c', "FILE", "with --fit: read this file after the usual ones"},
    {.name = NULL}};

struct flags {
    struct cli_common common;
    bool fit;
    unsigned context; /* 0: as configured */
    const char *config;
};

static bool on_option(void *arg, const char *name, const char *value)
{
    struct flags *flags = arg;
    uint64_t number;
    if (strcmp(name, "fit") == 0) {
        flags->fit = true;
    } else if (strcmp(name, "config") == 0) {
        flags->config = value;
    } else if (strcmp(name, "context-size") == 0) {
        if (!str_u64(str_from(value), INT32_MAX, &number) || number == 0) {
            fprintf(stderr, "inferd show: --context-size %s: say a number of tokens\n", value);
            return false;
        }
        flags->context = (unsigned)number;
    } else {
        return cli_common_option(&flags->common, name, value);
    }
    return true;
}

static void print_text(const char *label, const char *value)
{
    if (value && *value)
        printf("  %-16s %s\n", label, value);
}

static void print_number(const char *label, double value)
{
    if (value > 0)
        printf("  %-16s %.0f\n", label, value);
}

/* A file is described from its own header: no server is needed. */
static int show_file(const char *path)
{
    struct gguf g;
    struct err err;
    char text[16], advice[SHOW_ADVICE_SIZE];
    if (!gguf_read(path, &g, &err))
        return cli_fail(&err);
    printf("%s\n", path);
    print_text("name", g.name);
    print_text("architecture", g.architecture);
    print_text("quantization", g.quantization);
    print_text("parameters", cli_count((double)g.parameters, text));
    print_text("file", cli_bytes((double)g.file_bytes, text));
    print_number("context", g.context_length);
    print_number("embedding", g.embedding_length);
    print_number("layers", g.block_count);
    print_text("KV per token", cli_bytes((double)gguf_kv_bytes_per_token(&g), text));
    print_text("chat template", g.has_chat_template ? "yes" : "no");
    print_text("speed here", show_advice(&g, advice));
    return EXIT_OK;
}

static void show_model(const json_t *model)
{
    const json_t *more = json_object_get(model, "inferno");
    char text[16];
    printf("%s\n", json_string_value(json_object_get(model, "id")));
    print_text("state", json_string_value(json_object_get(more, "status")));
    print_text("error", json_string_value(json_object_get(more, "error")));
    print_text("owner", json_string_value(json_object_get(model, "owned_by")));
    print_text("architecture", json_string_value(json_object_get(more, "arch")));
    print_text("quantization", json_string_value(json_object_get(more, "quantization")));
    print_text("parameters", cli_count((double)json_integer_value(json_object_get(more, "parameters")), text));
    print_text("file", cli_bytes((double)json_integer_value(json_object_get(more, "size_bytes")), text));
    print_text("memory, about",
               cli_bytes((double)json_integer_value(json_object_get(more, "memory_estimate_bytes")), text));
    print_number("context", (double)json_integer_value(json_object_get(more, "context_length")));
    size_t i;
    json_t *capability;
    printf("  %-16s", "can do");
    json_array_foreach(json_object_get(more, "capabilities"), i, capability)
        printf(" %s", json_string_value(capability));
    printf("\n");
}

static int show_named(const struct cli_common *common, const char *name)
{
    struct err err;
    int status = EXIT_OK;
    char *path = api_client_model_path(name, "");
    struct api_client *api = api_client_new(common->url, &err);
    json_t *model = api ? api_client_json(api, "GET", path, STR(""), &err) : NULL;
    if (!model) {
        status = cli_fail(&err);
    } else if (common->json) {
        cli_print_json(model);
    } else {
        show_model(model);
    }
    json_decref(model);
    api_client_free(api);
    mem_free(path);
    return status;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct flags flags = {0};
    const struct cli_common *common = &flags.common;
    struct stat info;
    int status;
    int at = cli_parse(command, argc, argv, on_option, &flags, &status);
    if (at < 0)
        return status;
    if (at != argc - 1)
        return cli_usage(command, "name one model or file");
    if (flags.fit)
        return show_fit(argv[at], flags.context, flags.config, common->json);
    if (!common->url && !common->json && strchr(argv[at], '.') && stat(argv[at], &info) == 0)
        return show_file(argv[at]);
    return show_named(common, argv[at]);
}

const struct cli_command cmd_show = {"show", "MODEL", "describe a model or a GGUF file", NULL, options, run};
