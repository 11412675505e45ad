#include "unit/unit.h"

#include "instance/backend.h"

/* As llama-server, then as Python's argparse writes it. */
static const char llama_help[] =
    "----- common params -----\n\n"
    "-h,    --help, --usage                  print usage and exit\n"
    "-t,    --threads N                      number of threads, -1 = all (default: -1)\n"
    "                                        (env: LLAMA_ARG_THREADS)\n"
    "--poll <0...100>                        use polling level to wait for work\n"
    "-fa,   --flash-attn [on|off|auto]       set Flash Attention use, --not-a-flag is text\n"
    "-kvo,  --kv-offload, -nkvo, --no-kv-offload\n"
    "                                        whether to enable KV cache offloading, -x, --also-text\n"
    "-sm,   --split-mode {none,layer,row}    how to split\n"
    "-ncmoe, --n-cpu-moe N                   keep\n"
    "--fim-qwen-1.5b-default                 use default Qwen 2.5 Coder 1.5B\n"
    "--draft, --draft-n, --draft-max N       the argument has been removed. use --spec-draft-n-max or\n"
    "                                        --spec-ngram-mod-n-max\n"
    "--spec-draft-n-max N                    number of tokens to draft\n"
    "- no flag\n"
    "-1 = infinity\n";
static const char vllm_help[] = "usage: vllm serve [model_tag] [options]\n\n"
                                "  -h, --help            show this help message and exit\n"
                                "  --max-model-len MAX_MODEL_LEN\n"
                                "                        Model context length.\n"
                                "  --tensor-parallel-size TENSOR_PARALLEL_SIZE, -tp TENSOR_PARALLEL_SIZE\n"
                                "  --enable-prefix-caching, --no-enable-prefix-caching\n";

static bool has(const struct flag_set *flags, const char *flag)
{
    return flag_set_has(flags, str_from(flag));
}

static void flags_are_found_in_help_texts(void **state)
{
    (void)state;
    static const char *const in_llama[] = {"-h",
                                           "--help",
                                           "--usage",
                                           "-t",
                                           "--threads",
                                           "--poll",
                                           "-fa",
                                           "--flash-attn",
                                           "-kvo",
                                           "--kv-offload",
                                           "-nkvo",
                                           "--no-kv-offload",
                                           "-sm",
                                           "--split-mode",
                                           "-ncmoe",
                                           "--n-cpu-moe",
                                           "--fim-qwen-1.5b-default",
                                           "--spec-draft-n-max"};
    static const char *const not_in_llama[] = {"--not-a-flag", "-x", "--also-text", "-1", "-", "--draft-max", "-env"};
    static const char *const in_vllm[] = {"-h",  "--max-model-len",         "--tensor-parallel-size",
                                          "-tp", "--enable-prefix-caching", "--no-enable-prefix-caching"};
    struct flag_set *llama = flag_set_read(str_from(llama_help)), *vllm = flag_set_read(str_from(vllm_help));
    for (size_t i = 0; i < sizeof in_llama / sizeof *in_llama; i++)
        assert_true(has(llama, in_llama[i]));
    for (size_t i = 0; i < sizeof not_in_llama / sizeof *not_in_llama; i++)
        assert_false(has(llama, not_in_llama[i]));
    for (size_t i = 0; i < sizeof in_vllm / sizeof *in_vllm; i++)
        assert_true(has(vllm, in_vllm[i]));
    assert_false(has(vllm, "--model"));
    flag_set_free(llama);
    flag_set_free(vllm);
    flag_set_free(NULL);
    assert_null(flag_set_read(STR("command not found\n")));
    assert_null(flag_set_read(STR("")));
}

static char seen[256];

static void note(void *arg, const char *flag, const char *nearest)
{
    (void)arg;
    size_t n = strlen(seen);
    snprintf(seen + n, sizeof seen - n, "%s>%s ", flag, nearest ? nearest : "?");
}

static void unknown_flags_are_named_with_the_nearest(void **state)
{
    (void)state;
    static const char *const argv[] = {"llama-server",  "--thread",  "4",           "-fa",   "on",   "-1",
                                       "--flash-atn=1", "--poll=50", "--draft-max", "--zzz", "-a b", NULL};
    struct flag_set *flags = flag_set_read(str_from(llama_help));
    seen[0] = '\0';
    flag_set_check(flags, argv, note, NULL);
    assert_non_null(strstr(seen, "--thread>--threads "));
    assert_non_null(strstr(seen, "--flash-atn>--flash-attn "));
    assert_non_null(strstr(seen, "--draft-max>"));
    assert_non_null(strstr(seen, "--zzz>? "));
    assert_null(strstr(seen, "-fa>"));
    assert_null(strstr(seen, "-1>"));
    assert_null(strstr(seen, " -a>"));
    assert_null(strstr(seen, "--poll>"));
    flag_set_free(flags);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_are_found_in_help_texts),
        cmocka_unit_test(unknown_flags_are_named_with_the_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
