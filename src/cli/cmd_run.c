#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/talk_options.h"

static const struct cli_option options[] = {TALK_OPTIONS, {.name = NULL}};

/* The prompt: the operands joined by blanks, or all of stdin when there are none. */
static bool read_prompt(int count, char **words, struct buf *out)
{
    for (int i = 0; i < count; i++) {
        if (i)
            buf_putc(out, ' ');
        buf_puts(out, words[i]);
    }
    while (!count) {
        char *room = buf_reserve(out, 4096);
        size_t n = room ? fread(room, 1, 4096, stdin) : 0;
        if (!n)
            break;
        buf_commit(out, n);
    }
    return buf_ok(out) && out->len > 0;
}

struct words {
    int count;
    char **list;
};

static int ask_once(struct talk *talk, void *arg)
{
    const struct words *words = arg;
    struct buf prompt;
    struct err err;
    bool interrupted = false;
    int status = EXIT_OK;
    buf_init(&prompt, LIMIT_BODY_BYTES);
    if (!read_prompt(words->count, words->list, &prompt)) {
        err_set(&err, ERR_USAGE, "the prompt is empty or too large");
        status = cli_fail(&err);
    } else if (!talk_ask(talk, prompt.data, &interrupted, &err)) {
        status = cli_fail(&err);
    } else if (interrupted) {
        status = EXIT_INTERRUPTED;
    }
    buf_release(&prompt);
    return status;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct talk_flags flags = {.talk.temperature = -1};
    int status;
    int at = cli_parse(command, argc, argv, talk_option, &flags, &status);
    if (at < 0)
        return status;
    if (at == argc)
        return cli_usage(command, "name a model or a GGUF file");
    struct words words = {argc - at - 1, argv + at + 1};
    bool interactive = words.count == 0 && isatty(STDIN_FILENO);
    return talk_session(&flags, argv[at], interactive ? talk_interactive : ask_once, &words);
}

const struct cli_command cmd_run = {
    "run",
    "MODEL [PROMPT]",
    "ask a model one question",
    "MODEL is a name that the server knows (see 'inferd list') or a GGUF file; for a file a private server is started\n"
    "and ended with the command. Without PROMPT the question is read from stdin; on a terminal a chat begins.",
    options,
    run};
