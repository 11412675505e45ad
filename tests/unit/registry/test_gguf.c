/* GGUF headers built byte by byte, then broken in every way. */
#include "unit/unit.h"

#include "base/buf.h"
#include "registry/gguf.h"

static void put(struct buf *b, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        buf_putc(b, (char)(value >> (8 * i)));
}

static void put_text(struct buf *b, const char *text)
{
    put(b, strlen(text), 8);
    buf_puts(b, text);
}

static void put_key_text(struct buf *b, const char *key, const char *value)
{
    put_text(b, key);
    put(b, 8, 4);
    put_text(b, value);
}

static void put_key_u32(struct buf *b, const char *key, uint32_t value)
{
    put_text(b, key);
    put(b, 4, 4);
    put(b, value, 4);
}

/* One F32 tensor of 4 x 8 and a vocabulary of three words. */
static void build(struct buf *b)
{
    buf_init(b, 1 << 20);
    buf_puts(b, "GGUF");
    put(b, 3, 4);
    put(b, 1, 8);
    put(b, 9, 8);
    put_key_text(b, "general.architecture", "llama");
    put_key_text(b, "general.name", "Tiny");
    put_key_u32(b, "llama.context_length", 128);
    put_key_u32(b, "llama.block_count", 2);
    put_key_u32(b, "llama.embedding_length", 16);
    put_key_u32(b, "llama.attention.head_count", 4);
    put_key_u32(b, "llama.attention.head_count_kv", 2);
    put_key_text(b, "tokenizer.chat_template", "{{ x }}");
    put_text(b, "tokenizer.ggml.tokens");
    put(b, 9, 4);
    put(b, 8, 4);
    put(b, 3, 8);
    put_text(b, "a");
    put_text(b, "b");
    put_text(b, "c");
    put_text(b, "w");
    put(b, 2, 4);
    put(b, 4, 8);
    put(b, 8, 8);
    put(b, 0, 4);
    put(b, 0, 8);
    while (b->len % 32)
        buf_putc(b, 0);
    for (int i = 0; i < 128; i++)
        buf_putc(b, 1);
}

static void a_good_header_is_read(void **state)
{
    (void)state;
    struct buf b;
    struct gguf g;
    struct err err = ERR_INIT;
    build(&b);
    if (!gguf_read_memory(b.data, b.len, "tiny", &g, &err))
        print_error("%s\n", err.message);
    assert_int_equal(err.code, ERR_NONE);
    assert_string_equal(g.architecture, "llama");
    assert_string_equal(g.name, "Tiny");
    assert_string_equal(g.quantization, "F32");
    assert_int_equal(g.parameters, 32);
    assert_int_equal(g.tensor_bytes, 128);
    assert_int_equal(g.context_length, 128);
    assert_true(g.has_chat_template);
    assert_true(g.causal);
    assert_int_equal(gguf_kv_bytes_per_token(&g), 2 * 2 * (4 + 4) * 2);
    buf_release(&b);
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    struct buf b;
    struct gguf g;
    struct err err;
    build(&b);
    for (size_t n = 0; n < b.len; n++) {
        char *exact = malloc(n ? n : 1); /* so that a read past the end shows */
        memcpy(exact, b.data, n);
        assert_false(gguf_read_memory(exact, n, "cut", &g, &err));
        assert_int_equal(err.code, ERR_MODEL_LOAD_FAILED);
        assert_non_null(strstr(err.message, "cut"));
        free(exact);
    }
    buf_release(&b);
}

static void lies_are_refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint64_t value;
        int bytes;
        const char *word;
    } lies[] = {
        {0, 0x46464747, 4, "does not begin"},
        {4, 1, 4, "version"},
        {4, 0x03000000, 4, "big-endian"},
        {8, UINT64_MAX, 8, "impossible number"},
        {16, UINT64_MAX / 2, 8, "impossible number"},
        {24, UINT64_MAX, 8, "longer than 16 MiB"},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        struct buf b;
        struct gguf g;
        struct err err;
        build(&b);
        for (int k = 0; k < lies[i].bytes; k++)
            b.data[lies[i].at + (size_t)k] = (char)(lies[i].value >> (8 * k));
        assert_false(gguf_read_memory(b.data, b.len, "liar", &g, &err));
        if (!strstr(err.message, lies[i].word))
            print_error("%s\n", err.message);
        assert_non_null(strstr(err.message, lies[i].word));
        buf_release(&b);
    }
}

struct seen {
    unsigned pairs, left_out;
    char text[64];
    int64_t context;
};

static void see(void *arg, const struct gguf_pair *pair)
{
    struct seen *seen = arg;
    seen->pairs++;
    seen->left_out += pair->kind == GGUF_LEFT_OUT;
    if (strcmp(pair->key, "tokenizer.chat_template") == 0)
        snprintf(seen->text, sizeof seen->text, STR_FMT, STR_ARG(pair->text));
    if (strcmp(pair->key, "llama.context_length") == 0 && pair->kind == GGUF_INTEGER)
        seen->context = pair->integer;
}

static void test_all_pairs_are_handed_out(void **state)
{
    (void)state;
    struct seen seen = {0};
    struct err err = ERR_INIT;
    struct buf b;
    build(&b);
    assert_true(gguf_walk_memory(b.data, b.len, "t", see, &seen, &err));
    assert_int_equal(seen.pairs, 9);
    assert_int_equal(seen.left_out, 1); /* the vocabulary */
    assert_int_equal(seen.context, 128);
    assert_string_equal(seen.text, "{{ x }}");
    for (size_t n = 0; n < 100; n++)
        assert_false(gguf_walk_memory(b.data, n, "t", see, &seen, &err));
    buf_release(&b);
}

/* One value of each kind of number, and a text that is too long to be handed out. */
static void keep_last(void *arg, const struct gguf_pair *pair)
{
    *(struct gguf_pair *)arg = *pair;
}

static struct gguf_pair pair_of(int type, uint64_t bits, int bytes)
{
    struct gguf_pair last = {0};
    struct err err = ERR_INIT;
    struct buf b;
    buf_init(&b, 4 << 20);
    buf_puts(&b, "GGUF");
    put(&b, 3, 4);
    put(&b, 0, 8);
    put(&b, 1, 8);
    put_text(&b, "k");
    put(&b, (uint64_t)type, 4);
    put(&b, bits, bytes);
    for (uint64_t i = 0; type == 8 && i < bits; i++)
        buf_putc(&b, 'x');
    assert_true(gguf_walk_memory(b.data, b.len, "t", keep_last, &last, &err));
    buf_release(&b);
    return last;
}

static void test_numbers_keep_their_signs(void **state)
{
    (void)state;
    assert_int_equal(pair_of(0, 255, 1).integer, 255);
    assert_int_equal(pair_of(1, 255, 1).integer, -1);
    assert_int_equal(pair_of(5, UINT32_MAX, 4).integer, -1);
    assert_int_equal(pair_of(4, UINT32_MAX, 4).integer, UINT32_MAX);
    assert_int_equal(pair_of(11, UINT64_MAX, 8).integer, -1);
    assert_int_equal(pair_of(10, UINT64_MAX, 8).kind, GGUF_NUMBER);
    assert_true(pair_of(6, 0x3f000000, 4).number == 0.5);
    assert_true(pair_of(12, 0x3fe0000000000000, 8).number == 0.5);
    assert_true(pair_of(7, 1, 1).boolean);
    assert_int_equal(pair_of(8, LIMIT_GGUF_SHOWN, 8).kind, GGUF_STRING);
    assert_int_equal(pair_of(8, LIMIT_GGUF_SHOWN + 1, 8).kind, GGUF_LEFT_OUT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_pairs_are_handed_out),
        cmocka_unit_test(test_numbers_keep_their_signs),
        cmocka_unit_test(a_good_header_is_read),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(lies_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
