/* Which projector belongs to which model: a table of folders. */
#include "instance/projector.h"

#include "unit/unit.h"

static const char *choose(const char *model, bool shares, const char *files)
{
    static char copy[512];
    const char *names[16];
    struct projector_question q = {.model = str_from(model), .shares = shares, .names = names};
    snprintf(copy, sizeof copy, "%s", files);
    for (char *rest = copy, *name; (name = strsep(&rest, " "));)
        if (*name)
            names[q.count++] = name;
    int chosen = projector_choose(&q);
    return chosen < 0 ? "" : names[chosen];
}

static void test_table(void **state)
{
    static const struct {
        const char *model;
        bool shares;
        const char *files, *chosen;
    } rows[] = {
        /* a folder of many models: only by name */
        {"gemma-3-4b-it-Q4_K_M", false, "mmproj-gemma-3-4b-it-f16.gguf", "mmproj-gemma-3-4b-it-f16.gguf"},
        {"gemma-3-4b-it-Q4_K_M", false, "gemma-3-4b-it-mmproj-F16.gguf", "gemma-3-4b-it-mmproj-F16.gguf"},
        {"gemma-3-4b-it-Q4_K_M", false, "gemma_3_4b_it.mmproj-Q8_0.gguf", "gemma_3_4b_it.mmproj-Q8_0.gguf"},
        {"gemma-3-4b-it-Q4_K_M", false, "mmproj-F16.gguf mmproj-model-f16.gguf", ""},
        {"gemma-3-4b-it-Q4_K_M", false, "mmproj-gemma-3-12b-it-f16.gguf", ""},
        {"gemma-3-4b-it-Q4_K_M", false, "mmproj-gemma-3-4b-i-f16.gguf", ""}, /* whole words */
        {"llama", false, "mmproj-llama.gguf", "mmproj-llama.gguf"},
        {"tiny", false, "", ""},
        /* a repository's, or the only model */
        {"gemma-3-4b-it-Q4_K_M", true, "mmproj-F16.gguf", "mmproj-F16.gguf"},
        {"gemma-3-4b-it-Q4_K_M", true, "mmproj-model-f16.gguf", "mmproj-model-f16.gguf"},
        {"gemma-3-4b-it-Q4_K_M", true, "vision-encoder.gguf", "vision-encoder.gguf"},
        {"gemma-3-4b-it-Q4_K_M", true, "mmproj-a.gguf mmproj-b.gguf", ""},
        {"gemma-3-4b-it-Q4_K_M", true, "mmproj-BF16.gguf mmproj-F16.gguf mmproj-F32.gguf", "mmproj-F16.gguf"},
        {"gemma-3-4b-it-Q4_K_M", true, "mmproj-BF16.gguf mmproj-F32.gguf", "mmproj-BF16.gguf"},
        {"gemma-3-4b-it-Q4_K_M", true, "mmproj-F16.gguf mmproj-gemma-3-4b-it-F32.gguf",
         "mmproj-gemma-3-4b-it-F32.gguf"},
        {"gemma-3-4b-it-Q4_K_M", true, "mmproj-gemma-3-4b-it-F32.gguf mmproj-gemma-3-F16.gguf",
         "mmproj-gemma-3-4b-it-F32.gguf"}, /* the longest name */
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *chosen = choose(rows[i].model, rows[i].shares, rows[i].files);
        if (strcmp(chosen, rows[i].chosen) != 0)
            fail_msg("%s beside %s: chose '%s'", rows[i].model, rows[i].files, chosen);
    }
}

static void test_long_names(void **state)
{
    char name[600], model[600];
    const char *names[] = {name};
    (void)state;
    memset(name, 'a', sizeof name - 1);
    memset(model, 'a', sizeof model - 1);
    memcpy(name, "mmproj-", 7);
    memcpy(name + sizeof name - 6, ".gguf", 6);
    model[sizeof model - 1] = '\0';
    projector_choose(&(struct projector_question){.model = str_from(model), .names = names, .count = 1});
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table), cmocka_unit_test(test_long_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
