/* Shell completion and the manual page, both printed from the table of commands and the table of configuration keys. */
#include "cli/commands.h"

#include "base/version.h"
#include "conf/conf.h"

static const struct cli_option options[] = {{.name = NULL}};

static void print_options(const struct cli_command *command)
{
    printf("--help");
    for (const struct cli_option *o = command->options; o && o->name; o++)
        printf(" --%s", o->name);
}

static int print_bash(void)
{
    printf("_inferd() {\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} words=\n"
           "    if [ $COMP_CWORD -eq 1 ]; then\n"
           "        words='");
    for (const struct cli_command *const *c = cli_commands; *c; c++)
        printf("%s ", (*c)->name);
    printf("'\n    else\n        case $command in\n");
    for (const struct cli_command *const *c = cli_commands; *c; c++) {
        printf("        %s) words='", (*c)->name);
        print_options(*c);
        printf("' ;;\n");
    }
    printf("        esac\n    fi\n"
           "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
           "}\n"
           "complete -o default -F _inferd inferd\n");
    return EXIT_OK;
}

static int print_fish(void)
{
    for (const struct cli_command *const *c = cli_commands; *c; c++) {
        printf("complete -c inferd -n __fish_use_subcommand -f -a %s -d '%s'\n", (*c)->name, (*c)->summary);
        for (const struct cli_option *o = (*c)->options; o && o->name; o++)
            printf("complete -c inferd -n '__fish_seen_subcommand_from %s' -l %s%s\n", (*c)->name, o->name,
                   o->value ? " -r" : "");
    }
    return EXIT_OK;
}

/* Text for troff: a line must not begin with '.' or '\'', and '-' and '\\' are special. */
static void print_roff(const char *text)
{
    bool start = true;
    for (const char *p = text; *p; p++) {
        if (start && (*p == '.' || *p == '\''))
            printf("\\&");
        if (*p == '-' || *p == '\\')
            printf(*p == '-' ? "\\-" : "\\e");
        else
            putchar(*p);
        start = *p == '\n';
    }
}

static void print_command(const struct cli_command *c)
{
    printf(".SS inferd %s ", c->name);
    print_roff(c->arguments);
    printf("\n");
    print_roff(c->summary);
    printf(".\n");
    if (c->details) {
        printf(".PP\n");
        print_roff(c->details);
        printf("\n");
    }
    for (const struct cli_option *o = c->options; o && o->name; o++) {
        printf(".TP\n\\fB\\-\\-%s\\fR", o->name);
        if (o->value)
            printf(" \\fI%s\\fR", o->value);
        printf("\n");
        print_roff(o->help);
        printf("\n");
    }
}

static int print_man(void)
{
    printf(".TH INFERD 1 \"\" \"inferd %s\"\n.SH NAME\ninferd \\- run GGUF models and serve them\n"
           ".SH SYNOPSIS\n.B inferd\n.I COMMAND\n[options]\n.SH COMMANDS\n",
           INFERD_VERSION);
    for (const struct cli_command *const *c = cli_commands; *c; c++)
        print_command(*c);
    printf(".SH CONFIGURATION\nTOML; \\fBinferd config show\\fR prints what applies.\n");
    for (const struct conf_option *o = conf_options; o->key; o++) {
        printf(".TP\n\\fB%s%s%s\\fR = %s\n", o->table, *o->table ? "." : "", o->key, *o->value ? o->value : "\"\"");
        print_roff(o->help);
        printf("\n");
    }
    printf(".SH EXIT STATUS\n0 success, 1 general, 2 usage, 3 configuration, 4 model, 5 network, 6 authentication, 7 "
           "resources, 8 GPU,\n"
           "130 ended by Ctrl\\-C.\n");
    return EXIT_OK;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    int status, unused;
    int at = cli_parse(command, argc, argv, NULL, &unused, &status);
    if (at < 0)
        return status;
    const char *what = at == argc - 1 ? argv[at] : "";
    if (strcmp(what, "bash") == 0 || strcmp(what, "zsh") == 0)
        return print_bash();
    if (strcmp(what, "fish") == 0)
        return print_fish();
    if (strcmp(what, "man") == 0)
        return print_man();
    return cli_usage(command, "say bash, zsh, fish or man");
}

const struct cli_command cmd_completion = {
    "completion",
    "bash|zsh|fish|man",
    "print shell completion or the manual page",
    "  source <(inferd completion bash)\n"
    "  autoload bashcompinit && bashcompinit && source <(inferd completion zsh)\n"
    "  inferd completion fish | source\n"
    "  inferd completion man | man -l -",
    options,
    run};
