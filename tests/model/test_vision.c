/* Images through a real projector's graph into a real engine, with random weights: what is decoded after an image is
 * what llama.cpp's own helper decodes, however the image came into the cache. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <llama.h>
#include <mtmd-helper.h>
#include <mtmd.h>
#include <stdio.h>
#include <unistd.h>

#include "drive.h"
#include "worker/sample.h"
#include "worker/vision.h"

#define TOKENS 4    /* of a reply */
#define ROUND  0.02 /* how far log probabilities of a reply may differ: batches of other shapes round differently */
#define APART  0.03 /* how far they differ at least where prompts do */

static char tiny[4096], tiny_grid[4096], causal[4096], acausal[4096], grid[4096], narrow[4096];

/* A model and its eye; cells of an image of ours. */
struct pair {
    const char *model, *projector;
    unsigned cells;
};
static const struct pair pairs[] = {{tiny, causal, 64}, {tiny, acausal, 16}, {tiny_grid, grid, 9}};
#define PAIRS (sizeof pairs / sizeof *pairs)

static void set_paths(void)
{
    const char *folder = getenv("INFERD_PROJECTORS"), *model = getenv("INFERD_TINY");
    snprintf(tiny, sizeof tiny, "%s", model ? model : "INFERD_TINY-is-not-set");
    snprintf(causal, sizeof causal, "%s/mmproj_causal_64.gguf", folder ? folder : "INFERD_PROJECTORS-is-not-set");
    snprintf(acausal, sizeof acausal, "%s/mmproj_acausal_64.gguf", folder ? folder : "");
    snprintf(tiny_grid, sizeof tiny_grid, "%s/tiny_grid.gguf", folder ? folder : "");
    snprintf(grid, sizeof grid, "%s/mmproj_grid_64.gguf", folder ? folder : "");
    snprintf(narrow, sizeof narrow, "%s/mmproj_causal_48.gguf", folder ? folder : "");
}

/* ---- images: 24-bit BMPs ---- */

#define SIDE 20
static unsigned char bitmaps[4][54 + SIDE * SIDE * 3];

static struct str bitmap(unsigned which)
{
    unsigned char *p = bitmaps[which];
    const unsigned char head[] = {'B', 'M', 0, 0,    0, 0, 0, 0,    0, 0, 54, 0, 0, 0, 40,
                                  0,   0,   0, SIDE, 0, 0, 0, SIDE, 0, 0, 0,  1, 0, 24};
    memset(p, 0, 54);
    memcpy(p, head, sizeof head);
    for (unsigned y = 0; y < SIDE; y++)
        for (unsigned x = 0; x < SIDE; x++)
            for (unsigned c = 0; c < 3; c++)
                p[54 + (y * SIDE + x) * 3 + c] = (unsigned char)(x * (3 + which) * (c + 1) + y * (7 - which) * 2);
    return (struct str){(const char *)p, sizeof bitmaps[which]};
}

/* ---- a prompt "text#1text": an image where a '#' and its number stand ---- */

#define PARTS 16
struct prompt {
    struct vision_part parts[PARTS];
    struct vision_image images[PARTS];
    size_t count;
};

static void read_prompt(struct prompt *p, const char *text)
{
    p->count = 0;
    while (*text) {
        size_t n = strcspn(text, "#");
        struct vision_part *part = &p->parts[p->count];
        *part = (struct vision_part){.text = {text, n}};
        p->count += n > 0;
        text += n;
        if (*text != '#')
            continue;
        p->images[p->count] = (struct vision_image){.file = bitmap((unsigned)(text[1] - '0')), .name = "the.image"};
        p->parts[p->count] = (struct vision_part){.image = &p->images[p->count]};
        p->count++;
        text += 2;
    }
}

/* ---- ours ---- */

struct eye {
    struct drive drive;
    struct vision *vision;
};

static void open_eye(struct eye *eye, const struct pair *pair, unsigned batch, struct sched_config config)
{
    struct err err = ERR_INIT;
    struct engine_config engine = {
        .path = pair->model, .context_size = 2048, .batch = batch, .ubatch = batch, .threads = 2, .memory_map = true};
    config.ops = &engine_llama;
    config.queue_size = 16;
    if (!drive_open_with(&eye->drive, &engine, config, &err))
        fail_msg("%s", err.message);
    const struct vision_config vision = {.path = pair->projector, .info = engine_llama.info(eye->drive.engine)};
    eye->vision = vision_load(&vision, NULL, &err);
    if (!eye->vision)
        fail_msg("%s", err.message);
}

static void close_eye(struct eye *eye)
{
    vision_free(eye->vision);
    drive_close(&eye->drive);
}

static void look(struct eye *eye, const char *text, struct drive_reply *reply)
{
    struct prompt p;
    struct vision_prompt seen = {0};
    struct err err = ERR_INIT;
    read_prompt(&p, text);
    if (!vision_read(eye->vision, p.parts, p.count, NULL, &seen, &err))
        fail_msg("%s", err.message);
    struct gen_request request = {.kind = GEN_GENERATE,
                                  .tokens = seen.tokens,
                                  .token_count = seen.count,
                                  .pictures = seen.pictures,
                                  .picture_count = seen.picture_count,
                                  .choices = 1,
                                  .params = drive_greedy(TOKENS)};
    request.params.ignore_end = true;
    request.params.want_logprobs = true;
    drive_reply_init(&eye->drive, reply);
    if (!drive_submit(&eye->drive, reply, &request))
        fail_msg("%s", reply->err.message);
    vision_prompt_release(&seen);
    loop_run(&eye->drive.loop);
    assert_true(reply->done);
}

/* How sure the model was of its reply, the sum of its log probabilities: it tells prompts apart where random weights
 * say the same to both, and does not flip where two tokens are as likely. *ret_cached: of the prompt's tokens. */
static double see(struct eye *eye, const char *text, unsigned *ret_cached)
{
    struct drive_reply reply;
    look(eye, text, &reply);
    double sum = reply.logprob_sum;
    if (ret_cached)
        *ret_cached = reply.timings.cached_tokens;
    drive_reply_release(&reply);
    return sum;
}

static double distance(double a, double b)
{
    return a > b ? a - b : b - a;
}

static void same(double a, double b)
{
    if (distance(a, b) > ROUND)
        fail_msg("%f is not %f", a, b);
}

static void apart(double a, double b)
{
    if (distance(a, b) < APART)
        fail_msg("%f is nearly %f", a, b);
}

/* ---- llama.cpp's own ---- */

static mtmd_input_chunks *cut(mtmd_context *eye, const char *text)
{
    struct prompt p;
    struct mtmd_input_text texts[PARTS];
    struct mtmd_input_part inputs[PARTS] = {0};
    const struct mtmd_input_part *list[PARTS];
    mtmd_input_chunks *chunks = mtmd_input_chunks_init();
    read_prompt(&p, text);
    for (size_t i = 0; i < p.count; i++) {
        const struct vision_image *image = p.parts[i].image;
        texts[i] = (struct mtmd_input_text){p.parts[i].text.p, p.parts[i].text.n, false, true};
        list[i] = &inputs[i];
        if (image)
            inputs[i].bitmap = mtmd_helper_bitmap_init_from_buf(eye, (const unsigned char *)image->file.p,
                                                                image->file.n, false, mtmd_helper_init_opt_default())
                                   .bitmap;
        else
            inputs[i].text = &texts[i];
    }
    assert_int_equal(mtmd_tokenize_from_parts(eye, chunks, list, p.count, true), 0);
    for (size_t i = 0; i < p.count; i++)
        if (inputs[i].bitmap)
            mtmd_bitmap_free((mtmd_bitmap *)inputs[i].bitmap);
    return chunks;
}

static double logprob(struct llama_context *context, int vocabulary, llama_token token)
{
    const float *logits = llama_get_logits_ith(context, -1);
    return (double)logits[token] - (double)sample_log_sum(logits, (unsigned)vocabulary);
}

static llama_token most_likely(struct llama_context *context, int vocabulary)
{
    const float *logits = llama_get_logits_ith(context, -1);
    llama_token best = 0;
    for (llama_token token = 1; token < vocabulary; token++)
        if (logits[token] > logits[best])
            best = token;
    return best;
}

static double reference(const struct pair *pair, const char *text)
{
    struct llama_model *model = llama_model_load_from_file(pair->model, llama_model_default_params());
    struct llama_context_params params = llama_context_default_params();
    struct mtmd_context_params eye_params = mtmd_context_params_default();
    params.n_ctx = 2048;
    params.n_threads = params.n_threads_batch = 2;
    eye_params.warmup = eye_params.print_timings = false;
    struct llama_context *context = llama_init_from_model(model, params);
    mtmd_context *eye = mtmd_init_from_file(pair->projector, model, eye_params);
    mtmd_input_chunks *chunks = cut(eye, text);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    llama_pos past = 0;
    double sum = 0;
    assert_int_equal(mtmd_helper_eval_chunks(eye, context, chunks, 0, 0, 512, true, &past), 0);
    for (int i = 0; i < TOKENS; i++) {
        llama_token token = most_likely(context, llama_vocab_n_tokens(vocab));
        sum += logprob(context, llama_vocab_n_tokens(vocab), token);
        struct llama_batch batch = llama_batch_get_one(&token, 1);
        llama_pos position = past++;
        batch.pos = &position;
        assert_int_equal(llama_decode(context, batch), 0);
    }
    mtmd_input_chunks_free(chunks);
    mtmd_free(eye);
    llama_free(context);
    llama_model_free(model);
    return sum;
}

static const char *const prompts[] = {"a picture #0 of what? ", "#1#2 both", "the the #0 and #0 again the", "#3."};

static void as_llama_cpp_itself(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < PAIRS; kind++) {
        struct eye eye;
        open_eye(&eye, &pairs[kind], 512, (struct sched_config){0});
        for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++)
            same(see(&eye, prompts[i], NULL), reference(&pairs[kind], prompts[i]));
        close_eye(&eye);
    }
}

static void cached_as_cold(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < PAIRS; kind++) {
        struct eye eye;
        struct vision_stats stats;
        unsigned cached, whole, cells = pairs[kind].cells;
        open_eye(&eye, &pairs[kind], 512, (struct sched_config){0});
        double cold = see(&eye, "look #0 well", &cached);
        assert_int_equal(cached, 0);
        same(see(&eye, "look #0 well", &whole), cold);
        assert_true(whole >= 5 + cells + 4); /* all but the last token */
        apart(see(&eye, "look #1 well", &cached), cold);
        assert_true(cached >= 5 && cached <= whole - 4 - cells);
        see(&eye, "look #0 again", &cached);
        assert_true(cached >= 5 + cells);
        vision_stats(eye.vision, &stats);
        assert_int_equal(stats.encoded, 2);
        assert_int_equal(stats.found, 2);
        close_eye(&eye);
    }
}

static void two_images_and_their_order(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < PAIRS; kind++) {
        struct eye eye;
        unsigned cached, all, cells = pairs[kind].cells;
        open_eye(&eye, &pairs[kind], 512, (struct sched_config){0});
        double one = see(&eye, "this #0 that #1 those", NULL);
        apart(see(&eye, "this #1 that #0 those", NULL), one);
        same(see(&eye, "this #0 that #1 those", &all), one);
        assert_true(all > 2 * cells);
        see(&eye, "this #0 that #2 those", &cached);
        assert_true(cached > cells && cached < all - cells);
        same(see(&eye, "this #0 that #1 those", NULL), one);
        close_eye(&eye);
    }
}

static void in_the_middle_of_small_steps(void **state)
{
    static const char text[] = "a long text that goes before, and is longer than one step of this engine; then #0 an "
                               "image, and #1 another one, with more text behind it than fits one step of the engine";
    static const unsigned batches[PAIRS] = {24, 32, 4}; /* images in three pieces, whole, and in three pieces */
    (void)state;
    for (size_t kind = 0; kind < PAIRS; kind++) {
        struct eye eye;
        open_eye(&eye, &pairs[kind], 512, (struct sched_config){0});
        double whole = see(&eye, text, NULL);
        close_eye(&eye);
        open_eye(&eye, &pairs[kind], batches[kind], (struct sched_config){0});
        same(see(&eye, text, NULL), whole);
        close_eye(&eye);
    }
}

static void check_disk(const struct pair *pair)
{
    char folder[] = "/tmp/inferd-vision-XXXXXX", command[64];
    struct eye eye;
    unsigned cached;
    assert_non_null(mkdtemp(folder));
    struct sched_config config = {
        .kv_memory = 64 << 20, .kv_disk = 64 << 20, .kv_folder = folder, .kv_identity = "test"};
    open_eye(&eye, pair, 512, config);
    double cold = see(&eye, "a text that is worth keeping for long on disk #2 for later", NULL),
           other = see(&eye, "go on #1#2 and on", NULL);
    close_eye(&eye);
    open_eye(&eye, pair, 512, config);
    same(see(&eye, "a text that is worth keeping for long on disk #2 for later", &cached), cold);
    assert_true(cached > 40 + pair->cells);
    same(see(&eye, "go on #1#2 and on", &cached), other);
    assert_true(cached > 2 * pair->cells);
    see(&eye, "a text that is worth keeping for long on disk #1 for later", &cached);
    assert_true(cached >= 40 && cached < 40 + 25 + pair->cells); /* and the model's words around images */
    close_eye(&eye);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

static void found_again_on_disk(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < PAIRS; kind++)
        check_disk(&pairs[kind]);
}

/* ---- what cannot be ---- */

static void refuse_projector(const char *path, unsigned batch, unsigned wanted, const char *const *words)
{
    struct err err = ERR_INIT;
    unsigned cells = 0;
    struct engine_config config = {
        .path = tiny, .context_size = 512, .batch = batch, .ubatch = batch, .threads = 2, .memory_map = true};
    struct engine *engine = engine_llama.open(&config, &err);
    assert_non_null(engine);
    struct vision *vision =
        vision_load(&(struct vision_config){.path = path, .info = engine_llama.info(engine)}, &cells, &err);
    assert_null(vision);
    assert_int_equal(err.code, ERR_MODEL_LOAD_FAILED);
    assert_int_equal(cells, wanted);
    for (; *words; words++)
        if (!strstr(err.message, *words))
            fail_msg("says: %s, without %s", err.message, *words);
    engine_llama.close(engine);
}

static void projectors_that_do_not_fit(void **state)
{
    (void)state;
    refuse_projector(narrow, 512, 0, (const char *const[]){narrow, "64", "48", NULL});
    refuse_projector(tiny, 512, 0, (const char *const[]){tiny, NULL});
    refuse_projector("/nowhere.gguf", 512, 0, (const char *const[]){"/nowhere.gguf", NULL});
    refuse_projector(acausal, 8, 16, (const char *const[]){"ubatch_size", "16 or more", NULL});
}

static void refuse(struct eye *eye, struct prompt *p, enum err_code code, const char *param)
{
    struct vision_prompt seen = {0};
    struct err err = ERR_INIT;
    assert_false(vision_read(eye->vision, p->parts, p->count, NULL, &seen, &err));
    assert_int_equal(err.code, code);
    assert_string_equal(err.param, param);
    assert_null(seen.tokens);
}

static bool at_once(void *arg)
{
    (void)arg;
    return true;
}

static void images_that_cannot_be_read(void **state)
{
    static const char png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1";
    struct eye eye;
    struct prompt p;
    (void)state;
    open_eye(&eye, &pairs[0], 512, (struct sched_config){0});
    read_prompt(&p, "x #0 y");
    p.images[1].file = (struct str){png, sizeof png - 1};
    refuse(&eye, &p, ERR_INVALID_PARAMETERS, "the.image");
    p.images[1].file = STR("GIF89a\5\0\4\0\0\0\0;"); /* the size is good, the pixels are not there */
    refuse(&eye, &p, ERR_INVALID_PARAMETERS, "the.image");
    read_prompt(&p, "#0#1#2#3#0#1#2#3#0#1#2#3#0#1#2"); /* 960 cells fit */
    struct vision_prompt seen = {0};
    struct err err = ERR_INIT;
    assert_true(vision_read(eye.vision, p.parts, p.count, NULL, &seen, &err));
    assert_true(seen.count >= 15 * 64);
    assert_int_equal(seen.picture_count, 15);
    vision_prompt_release(&seen);
    const struct engine_stop stop = {.asked = at_once};
    assert_false(vision_read(eye.vision, p.parts, p.count, &stop, &seen, &err));
    assert_int_equal(err.code, ERR_CLIENT_CLOSED);
    close_eye(&eye);
}

static int setup(void **state)
{
    (void)state;
    set_paths();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_llama_cpp_itself),        cmocka_unit_test(cached_as_cold),
        cmocka_unit_test(two_images_and_their_order), cmocka_unit_test(in_the_middle_of_small_steps),
        cmocka_unit_test(found_again_on_disk),        cmocka_unit_test(projectors_that_do_not_fit),
        cmocka_unit_test(images_that_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
