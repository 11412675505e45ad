#include "cli/talk.h"

#include <sys/ioctl.h>

#include "base/clock.h"
#include "base/json_read.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "cli/cli.h"

struct talk {
    struct api_client *api;
    const char *model;
    struct talk_options options;
    json_t *messages;
    bool chat; /* the model has a chat template */
    struct buf answer;
    uint64_t first_ns;
    json_int_t tokens;
};

static bool bar_drawn;

static void draw_progress(float fraction)
{
    struct winsize size = {.ws_col = 80};
    if (!isatty(STDERR_FILENO))
        return;
    ioctl(STDERR_FILENO, TIOCGWINSZ, &size);
    int width = size.ws_col > 30 ? (size.ws_col > 70 ? 40 : size.ws_col - 28) : 10,
        full = (int)(fraction * (float)width);
    fprintf(stderr, "\rloading [%.*s%*s] %3.0f %%", full, "########################################", width - full, "",
            (double)fraction * 100);
    bar_drawn = true;
}

static void clear_progress(void)
{
    if (bar_drawn)
        fprintf(stderr, "\r\033[K");
    bar_drawn = false;
}

static bool can_chat(const json_t *model)
{
    size_t i;
    json_t *capability;
    json_array_foreach(json_object_get(json_object_get(model, "inferno"), "capabilities"), i,
                       capability) if (strcmp(json_string_value(capability), "chat") == 0) return true;
    return false;
}

struct talk *talk_new(struct api_client *api, const char *model, const struct talk_options *options, struct err *err)
{
    char *path = api_client_model_path(model, "");
    json_t *description = api_client_json(api, "GET", path, STR(""), err);
    mem_free(path);
    if (!description)
        return NULL;
    bool loaded = api_client_load(api, model, draw_progress, err);
    clear_progress();
    struct talk *talk = NULL;
    if (loaded) {
        talk = mem_calloc(1, sizeof *talk);
        *talk = (struct talk){.api = api, .model = model, .options = *options, .chat = can_chat(description)};
        buf_init(&talk->answer, LIMIT_BODY_BYTES);
        talk_clear(talk);
    }
    json_decref(description);
    return talk;
}

void talk_free(struct talk *talk)
{
    if (!talk)
        return;
    json_decref(talk->messages);
    buf_release(&talk->answer);
    mem_free(talk);
}

static void remember(struct talk *talk, const char *role, const char *content)
{
    json_array_append_new(talk->messages, json_pack("{s:s,s:s}", "role", role, "content", content));
}

void talk_clear(struct talk *talk)
{
    json_decref(talk->messages);
    talk->messages = json_array();
    if (talk->options.system)
        remember(talk, "system", talk->options.system);
}

static void put_request(struct talk *talk, const char *prompt, struct buf *out)
{
    struct json j;
    json_begin(&j, out);
    json_open_object(&j, NULL);
    json_put_string(&j, "model", talk->model);
    if (talk->chat) {
        char *messages = json_dumps(talk->messages, JSON_COMPACT);
        json_put_raw(&j, "messages", str_from(messages ? messages : "[]"));
        free(messages);
    } else {
        json_put_string(&j, "prompt", prompt);
    }
    json_put_bool(&j, "stream", true);
    json_open_object(&j, "stream_options");
    json_put_bool(&j, "include_usage", true);
    json_close(&j);
    if (talk->options.max_tokens > 0)
        json_put_int(&j, "max_tokens", talk->options.max_tokens);
    if (talk->options.temperature >= 0)
        json_put_number(&j, "temperature", talk->options.temperature);
    json_close(&j);
    if (!json_finish(&j))
        buf_clear(out);
}

static const char *text_of(const json_t *chunk)
{
    const json_t *choice = json_array_get(json_object_get(chunk, "choices"), 0);
    const char *text = json_string_value(json_object_get(json_object_get(choice, "delta"), "content"));
    return text ? text : json_string_value(json_object_get(choice, "text"));
}

static bool on_data(void *arg, struct str data)
{
    struct talk *talk = arg;
    json_t *chunk = json_read(data, NULL);
    const char *text = text_of(chunk);
    const json_t *usage = json_object_get(chunk, "usage");
    if (talk->options.json) {
        printf(STR_FMT "\n", STR_ARG(data));
    } else if (text && *text) {
        if (!talk->first_ns)
            talk->first_ns = clock_ns();
        fputs(text, stdout);
        buf_puts(&talk->answer, text);
    }
    if (json_is_object(usage))
        talk->tokens = json_integer_value(json_object_get(usage, "completion_tokens"));
    fflush(stdout);
    json_decref(chunk);
    return buf_ok(&talk->answer) && !ferror(stdout);
}

static void print_speed(const struct talk *talk, uint64_t started_ns)
{
    double first = (double)(talk->first_ns - started_ns) / 1e6, rest = (double)(clock_ns() - talk->first_ns) / 1e9;
    if (talk->first_ns && talk->tokens > 1)
        fprintf(stderr, "%lld tokens, first after %.0f ms, then %.1f tokens/s\n", (long long)talk->tokens, first,
                (double)(talk->tokens - 1) / rest);
}

bool talk_ask(struct talk *talk, const char *prompt, bool *ret_interrupted, struct err *err)
{
    struct buf request;
    buf_init(&request, LIMIT_BODY_BYTES);
    buf_clear(&talk->answer);
    talk->first_ns = 0;
    talk->tokens = 0;
    if (talk->chat)
        remember(talk, "user", prompt);
    put_request(talk, prompt, &request);
    uint64_t started = clock_ns();
    const char *path = talk->chat ? "/v1/chat/completions" : "/v1/completions";
    bool good = api_client_stream(talk->api, "POST", path, buf_view(&request), on_data, talk, ret_interrupted, err);
    buf_release(&request);
    if (!talk->options.json)
        printf("\n");
    if (good && talk->chat)
        remember(talk, "assistant", talk->answer.data ? talk->answer.data : "");
    else if (talk->chat)
        json_array_remove(talk->messages, json_array_size(talk->messages) - 1);
    if (good && talk->options.verbose)
        print_speed(talk, started);
    return good;
}
