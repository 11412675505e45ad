#include "instance/projector.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define NAME_BYTES 256 /* longer ones are cut */

/* Lower case, and one separator: "Gemma_3.4B" and "gemma-3-4b" are the same. */
static void normalise(struct str name, char out[NAME_BYTES])
{
    size_t n = name.n < NAME_BYTES - 1 ? name.n : NAME_BYTES - 1;
    assert(n == 0 || name.p);
    for (size_t i = 0; i < n; i++) {
        char c = name.p[i];
        out[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c == '_' || c == '.' || c == ' ' ? '-' : c;
    }
    out[n] = '\0';
}

static bool drop_end(char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    if (n < m || strcmp(text + n - m, end) != 0)
        return false;
    text[n - m] = '\0';
    return true;
}

/* What is left of a projector's file name: the model's. "" when there is nothing. */
static void base_of(const char *name, char out[NAME_BYTES])
{
    static const char *const precisions[] = {"-bf16", "-fp16", "-f16", "-f32", "-fp32", "-q8-0", "-q4-0"};
    char text[NAME_BYTES];
    struct str stem = str_from(name);
    if (str_ends(stem, STR(".gguf")))
        stem.n -= 5;
    text[0] = '-';
    normalise((struct str){stem.p, stem.n < NAME_BYTES - 2 ? stem.n : NAME_BYTES - 2}, out);
    snprintf(text + 1, sizeof text - 1, "%.*s", NAME_BYTES - 2, out);
    char *word = strstr(text, "-mmproj");
    if (word)
        memmove(word, word + 7, strlen(word + 7) + 1);
    for (size_t i = 0; i < sizeof precisions / sizeof *precisions; i++)
        drop_end(text, precisions[i]);
    drop_end(text, "-model");
    snprintf(out, NAME_BYTES, "%s", *text == '-' ? text + 1 : text);
}

static bool is_named_after(const char *base, const char *model)
{
    size_t n = strlen(base);
    return n > 0 && strncmp(base, model, n) == 0 && (model[n] == '\0' || model[n] == '-');
}

static bool is_half(const char *name)
{
    char text[NAME_BYTES];
    normalise(str_from(name), text);
    drop_end(text, "-gguf");
    return drop_end(text, "-f16");
}

/* Of equals: F16, else the first by name. */
static bool is_better(const char *name, const char *than)
{
    if (is_half(name) != is_half(than))
        return is_half(name);
    return strcmp(name, than) < 0;
}

int projector_choose(const struct projector_question *q)
{
    char model[NAME_BYTES], base[NAME_BYTES];
    int best = -1;
    size_t longest = 0;
    normalise(q->model, model);
    for (size_t i = 0; i < q->count; i++) {
        base_of(q->names[i], base);
        size_t length = strlen(base);
        bool fits = is_named_after(base, model) || (q->shares && (length == 0 || q->count == 1));
        length = is_named_after(base, model) ? length : 0;
        if (!fits || (best >= 0 && length < longest))
            continue;
        if (best >= 0 && length == longest && !is_better(q->names[i], q->names[best]))
            continue;
        best = (int)i;
        longest = length;
    }
    return best;
}
