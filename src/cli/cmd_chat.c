/* The interactive chat: one line a turn, three quotes around several; Ctrl-C ends an answer, Ctrl-D the chat. */
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/talk_options.h"

#include <editline/readline.h>
#include <signal.h>

static const struct cli_option options[] = {TALK_OPTIONS, {.name = NULL}};

static const char help[] = "  /clear   forget the conversation\n"
                           "  /help    this text\n"
                           "  /bye     end (or Ctrl-D)\n"
                           "  \"\"\"      begin and end a text of several lines\n"
                           "  Ctrl-C   end the answer that is being written\n";

/* Reads a turn into *out; false at the end of input. */
static bool read_turn(struct buf *out)
{
    bool open = false;
    buf_clear(out);
    do {
        char *line = readline(open ? "... " : ">>> ");
        if (!line)
            return false;
        struct str text = str_from(line);
        bool mark = str_starts(text, STR("\"\"\""));
        if (mark) {
            open = !open;
            text.p += 3;
            text.n -= 3;
        }
        if (!open && !mark && *line)
            add_history(line);
        if (out->len)
            buf_putc(out, '\n');
        buf_str(out, text);
        free(line);
    } while (open);
    return buf_ok(out);
}

/* true: the line was a command. */
static bool command_line(struct talk *talk, const char *line, bool *ret_end)
{
    if (strcmp(line, "/bye") == 0 || strcmp(line, "/exit") == 0)
        *ret_end = true;
    else if (strcmp(line, "/clear") == 0)
        talk_clear(talk);
    else if (strcmp(line, "/help") == 0 || strcmp(line, "/?") == 0)
        fputs(help, stdout);
    else
        return *line == '\0';
    return true;
}

int talk_interactive(struct talk *talk, void *unused)
{
    (void)unused;
    struct buf turn;
    struct err err;
    bool end = false, interrupted;
    buf_init(&turn, LIMIT_BODY_BYTES);
    signal(SIGINT, SIG_IGN); /* between answers; during one the client listens for it */
    printf("Type a message, /help for help.\n");
    while (!end && read_turn(&turn)) {
        const char *line = turn.data ? turn.data : "";
        if (command_line(talk, line, &end))
            continue;
        if (!talk_ask(talk, line, &interrupted, &err))
            cli_fail(&err);
    }
    buf_release(&turn);
    return EXIT_OK;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct talk_flags flags = {.talk.temperature = -1};
    int status;
    int at = cli_parse(command, argc, argv, talk_option, &flags, &status);
    if (at < 0)
        return status;
    if (at != argc - 1)
        return cli_usage(command, "name one model or GGUF file");
    return talk_session(&flags, argv[at], talk_interactive, NULL);
}

const struct cli_command cmd_chat = {"chat", "MODEL", "talk with a model", help, options, run};
