/* The scheduler over real weights. INFERD_MODELS names the folder that scripts/models.sh prints. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "drive.h"

#define SMOLLM "SmolLM2-135M-Instruct.Q4_1.gguf"
#define GEMMA  "gemma-3-270m-q4_k_m.gguf"

static struct drive chat, base;

static const char *model_path(const char *name)
{
    static char path[4096];
    const char *folder = getenv("INFERD_MODELS");
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "INFERD_MODELS-is-not-set", name);
    return path;
}

static void open_model_lookup(struct drive *drive, const char *name, enum sched_lookup lookup)
{
    struct err err = ERR_INIT;
    struct engine_config config = {.path = model_path(name), .context_size = 4096, .gpu_layers = 0, .memory_map = true};
    if (!drive_open_lookup(drive, &engine_llama, &config, 64, lookup, &err))
        fail_msg("%s (run scripts/models.sh and set INFERD_MODELS)", err.message);
}

static void open_model(struct drive *drive, const char *name)
{
    open_model_lookup(drive, name, SCHED_LOOKUP_OFF);
}

static int setup(void **state)
{
    (void)state;
    open_model(&chat, SMOLLM);
    open_model(&base, GEMMA);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    drive_close(&chat);
    drive_close(&base);
    return 0;
}

static void run_text(struct drive *drive, struct drive_reply *reply, const char *text, const struct gen_params *params)
{
    drive_reply_init(drive, reply);
    assert_true(drive_text_request(drive, reply, text, params));
    loop_run(&drive->loop);
    assert_true(reply->done);
}

static void greedy_completion_knows_paris(void **state)
{
    (void)state;
    struct gen_params params = drive_greedy(12);
    struct drive_reply reply;
    run_text(&chat, &reply, "The capital of France is", &params);
    assert_non_null(strstr(drive_text(&reply, 0), "Paris"));
    assert_int_equal(reply.started, 1);
    assert_int_equal(reply.timings.generated_tokens, reply.tokens[0]);
    drive_reply_release(&reply);
}

static void large_vocabulary_works(void **state)
{
    (void)state;
    struct gen_params params = drive_greedy(8);
    struct drive_reply reply;
    assert_int_equal(engine_llama.info(base.engine)->vocabulary, 262144);
    run_text(&base, &reply, "The capital of France is", &params);
    assert_non_null(strstr(drive_text(&reply, 0), "capital"));
    drive_reply_release(&reply);
    params.temperature = 0.8f;
    params.top_p = 0.9f;
    params.has_seed = true;
    params.seed = 7;
    struct drive_reply again;
    run_text(&base, &reply, "Once upon a time", &params);
    run_text(&base, &again, "Once upon a time", &params);
    assert_string_equal(drive_text(&reply, 0), drive_text(&again, 0));
    drive_reply_release(&reply);
    drive_reply_release(&again);
}

static void batch_equals_singles(void **state)
{
    (void)state;
    static const char *const prompts[] = {"One, two, three, four,",
                                          "The sun rises in the",
                                          "Water boils at",
                                          "A, B, C, D,",
                                          "My name is",
                                          "The opposite of hot is",
                                          "Monday, Tuesday,",
                                          "Roses are red, violets are"};
    struct gen_params params = drive_greedy(16);
    struct drive_reply single[8], batched[8];
    for (int i = 0; i < 8; i++)
        run_text(&chat, &single[i], prompts[i], &params);
    for (int i = 0; i < 8; i++) {
        drive_reply_init(&chat, &batched[i]);
        assert_true(drive_text_request(&chat, &batched[i], prompts[i], &params));
    }
    loop_run(&chat.loop);
    for (int i = 0; i < 8; i++) { /* sums of a batch round differently: near ties may part ways, the beginning not */
        assert_true(batched[i].done);
        assert_memory_equal(drive_text(&batched[i], 0), drive_text(&single[i], 0), 4);
        drive_reply_release(&single[i]);
        drive_reply_release(&batched[i]);
    }
}

static void prefixes_are_reused(void **state)
{
    (void)state;
    char prompt[2048] = "";
    for (int i = 0; i < 40; i++)
        snprintf(prompt + strlen(prompt), sizeof prompt - strlen(prompt), "Rule %d: be kind to number %d. ", i, i * 7);
    engine_token tokens[2048];
    size_t count = drive_tokenize(&chat, prompt, tokens, 2048);
    struct gen_params params = drive_greedy(4);
    struct drive_reply first, burst[4];
    run_text(&chat, &first, prompt, &params);
    assert_int_equal(first.timings.cached_tokens, 0);
    for (int i = 0; i < 4; i++) {
        drive_reply_init(&chat, &burst[i]);
        assert_true(drive_text_request(&chat, &burst[i], prompt, &params));
    }
    loop_run(&chat.loop);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(burst[i].timings.cached_tokens, count - 1);
        assert_string_equal(drive_text(&burst[i], 0), drive_text(&first, 0));
        drive_reply_release(&burst[i]);
    }
    drive_reply_release(&first);
}

/* Two prompts of 500 tokens in 700 cells: the second pushes the first out, which then comes back as it was. */
static void a_prefix_comes_back_from_the_store(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct drive small;
    struct engine_config engine = {.path = model_path("SmolLM2-135M-Instruct.Q4_1.gguf"),
                                   .context_size = 700,
                                   .gpu_layers = -1,
                                   .memory_map = true};
    struct sched_config config = {.ops = &engine_llama, .queue_size = 8, .kv_memory = 64 << 20};
    assert_true(drive_open_with(&small, &engine, config, &err));
    char texts[2][4096] = {"", ""};
    for (int i = 0; i < 60; i++)
        for (int j = 0; j < 2; j++)
            snprintf(texts[j] + strlen(texts[j]), sizeof texts[j] - strlen(texts[j]), "%s %d is kept. ",
                     j ? "Promise" : "Rule", i * (j + 3));
    struct gen_params params = drive_greedy(12);
    struct drive_reply first, again, other;
    run_text(&small, &first, texts[0], &params);
    run_text(&small, &again, texts[0], &params); /* from the cache */
    run_text(&small, &other, texts[1], &params);
    drive_reply_release(&first);
    run_text(&small, &first, texts[0], &params);
    struct sched_stats stats;
    sched_stats(small.sched, &stats);
    assert_int_equal(stats.kv.restored, 1);
    assert_int_equal(first.timings.cached_tokens, first.timings.prompt_tokens - 1);
    assert_string_equal(drive_text(&first, 0), drive_text(&again, 0));
    drive_reply_release(&first);
    drive_reply_release(&again);
    drive_reply_release(&other);
    drive_close(&small);
}

/* Gemma's windows of 512: a state that was loaded has the last window only, and says so. */
static void sliding_windows_are_known(void **state)
{
    (void)state;
    struct err err = ERR_INIT;
    struct engine_config config = {
        .path = model_path(GEMMA), .context_size = 3072, .gpu_layers = -1, .memory_map = true};
    struct engine *engine = engine_llama.open(&config, &err);
    assert_non_null(engine);
    assert_true(engine_llama.info(engine)->whole_states);
    struct engine_row rows[300];
    for (unsigned at = 0; at < 1200; at += 300) {
        for (unsigned i = 0; i < 300; i++)
            rows[i] = (struct engine_row){.token = (engine_token)(1000 + at + i), .position = at + i, .sequence = 0};
        assert_int_equal(engine_llama.decode(engine, rows, 300, NULL), ENGINE_OK);
    }
    assert_true(engine_llama.sequence_has(engine, 0, 1200));
    size_t size = engine_llama.state_size(engine, 0);
    void *bytes = malloc(size);
    assert_int_equal(engine_llama.state_save(engine, 0, bytes, size), size);
    assert_true(engine_llama.state_load(engine, 1, bytes, size));
    assert_true(engine_llama.sequence_has(engine, 1, 1200));
    assert_false(engine_llama.sequence_has(engine, 1, 600));
    assert_false(engine_llama.state_load(engine, 2, bytes, size)); /* no room for a third */
    free(bytes);
    engine_llama.close(engine);
}

static void choices_share_a_prefill(void **state)
{
    (void)state;
    engine_token tokens[64];
    struct gen_request request = {.kind = GEN_GENERATE, .tokens = tokens, .choices = 3, .params = drive_greedy(8)};
    request.token_count = drive_tokenize(&chat, "Three little pigs went out to", tokens, 64);
    request.params.temperature = 1;
    request.params.has_seed = true;
    struct drive_reply reply;
    drive_reply_init(&chat, &reply);
    assert_true(drive_submit(&chat, &reply, &request));
    loop_run(&chat.loop);
    assert_int_equal(reply.finished, 3);
    assert_string_not_equal(drive_text(&reply, 0), drive_text(&reply, 1));
    assert_true(reply.tokens[0] > 0 && reply.tokens[1] > 0 && reply.tokens[2] > 0);
    drive_reply_release(&reply);
}

static void logprobs_are_probabilities(void **state)
{
    (void)state;
    engine_token tokens[64];
    struct gen_request request = {
        .kind = GEN_GENERATE, .tokens = tokens, .choices = 1, .score_prompt = true, .params = drive_greedy(6)};
    request.token_count = drive_tokenize(&chat, "The capital of France is", tokens, 64);
    request.params.want_logprobs = true;
    request.params.logprobs = 5;
    struct drive_reply reply;
    drive_reply_init(&chat, &reply);
    assert_true(drive_submit(&chat, &reply, &request));
    loop_run(&chat.loop);
    assert_int_equal(reply.prompt_logprob_count, request.token_count);
    assert_int_equal(reply.logprob_count, reply.tokens[0]);
    assert_int_equal(reply.top_count, 5 * (reply.tokens[0] + request.token_count - 1));
    assert_true(reply.logprob_sum < 0 && reply.logprob_sum > -100);
    drive_reply_release(&reply);
}

/* More rows of logits than one decode may have. */
static void long_prompts_are_scored_in_pieces(void **state)
{
    struct drive *models[] = {&chat, &base};
    (void)state;
    for (int m = 0; m < 2; m++) {
        static engine_token tokens[1000];
        char prompt[2000] = "";
        for (int i = 0; i < 100; i++)
            snprintf(prompt + strlen(prompt), sizeof prompt - strlen(prompt), "%d is a number. ", i);
        struct gen_request request = {
            .kind = GEN_GENERATE, .tokens = tokens, .choices = 1, .score_prompt = true, .params = drive_greedy(2)};
        request.token_count = drive_tokenize(models[m], prompt, tokens, 1000);
        request.params.want_logprobs = true;
        struct drive_reply reply;
        drive_reply_init(models[m], &reply);
        assert_true(drive_submit(models[m], &reply, &request));
        loop_run(&models[m]->loop);
        assert_true(reply.done);
        assert_true(request.token_count > 2 * (engine_llama.info(models[m]->engine)->outputs));
        assert_int_equal(reply.prompt_logprob_count, request.token_count);
        assert_true(reply.logprob_sum < 0 && reply.logprob_sum > -5.0 * (double)request.token_count);
        drive_reply_release(&reply);
    }
}

/* A text that any model goes on repeating, so that batches that round differently pick the same. */
static void guesses_change_the_steps_and_not_the_text(void **state)
{
    static const char verse[] =
        "The red fox runs over the hill. The blue bird sings in the tree. The old man sits by the door. ";
    char prompt[1024];
    struct gen_params params = drive_greedy(96);
    struct drive_reply replies[2];
    struct sched_stats stats[2];
    (void)state;
    snprintf(prompt, sizeof prompt, "%s%s%s%s", verse, verse, verse, verse);
    params.ignore_end = true;
    for (int on = 0; on < 2; on++) {
        struct drive drive;
        open_model_lookup(&drive, SMOLLM, on ? SCHED_LOOKUP_EAGER : SCHED_LOOKUP_OFF);
        run_text(&drive, &replies[on], prompt, &params);
        sched_stats(drive.sched, &stats[on]);
        drive_close(&drive);
    }
    assert_string_equal(drive_text(&replies[1], 0), drive_text(&replies[0], 0));
    assert_int_equal(replies[0].timings.draft_tokens, 0);
    assert_true(replies[1].timings.draft_accepted > 60);
    assert_true(stats[1].steps * 2 < stats[0].steps);
    drive_reply_release(&replies[0]);
    drive_reply_release(&replies[1]);
}

static void json_grammar_holds(void **state)
{
    (void)state;
    struct gen_params params = drive_greedy(40);
    params.grammar = "root ::= \"{\\\"n\\\": \" [0-9]{1,3} \"}\"";
    struct drive_reply reply;
    int n = -1, end = 0;
    run_text(&chat, &reply, "Give me a number:", &params);
    assert_int_equal(sscanf(drive_text(&reply, 0), "{\"n\": %d}%n", &n, &end), 1);
    assert_int_equal((size_t)end, strlen(drive_text(&reply, 0)));
    assert_int_equal(reply.finish[0], GEN_FINISH_STOP);
    drive_reply_release(&reply);
    params.grammar = "root ::= (";
    drive_reply_init(&chat, &reply);
    assert_false(drive_text_request(&chat, &reply, "x", &params));
    assert_int_equal(reply.err.code, ERR_INVALID_PARAMETERS);
    drive_reply_release(&reply);
}

static double cosine(const float *a, const float *b, unsigned n)
{
    double dot = 0, aa = 0, bb = 0;
    for (unsigned i = 0; i < n; i++) {
        dot += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return dot / sqrt(aa * bb);
}

static float *embed(struct drive *drive, const char *text)
{
    engine_token tokens[64];
    struct gen_request request = {.kind = GEN_EMBED, .tokens = tokens};
    struct drive_reply reply;
    request.token_count = drive_tokenize(drive, text, tokens, 64);
    drive_reply_init(drive, &reply);
    reply.embedding = calloc(drive->ops->info(drive->engine)->embedding_size, sizeof(float));
    assert_true(drive_submit(drive, &reply, &request));
    loop_run(&drive->loop);
    assert_true(reply.done);
    float *embedding = reply.embedding;
    reply.embedding = NULL;
    drive_reply_release(&reply);
    return embedding;
}

static void chat_models_embed_with_mean_pooling(void **state)
{
    (void)state;
    unsigned size = engine_llama.info(chat.engine)->embedding_size;
    assert_int_equal(engine_llama.info(chat.engine)->pooling, ENGINE_POOLING_MEAN);
    float *a = embed(&chat, "The cat sat on the mat."), *b = embed(&chat, "The cat sat on the mat."),
          *c = embed(&chat, "Quarterly revenue rose by nine percent.");
    assert_true(cosine(a, b, size) > 0.9999);
    assert_true(cosine(a, c, size) < cosine(a, b, size) - 0.01);
    free(a);
    free(b);
    free(c);
}

static void truncated_file_fails_with_the_reason(void **state)
{
    (void)state;
    char path[] = "/tmp/truncated-XXXXXX", block[65536];
    int fd = mkstemp(path);
    FILE *from = fopen(model_path(SMOLLM), "rb");
    assert_non_null(from);
    for (int i = 0; i < 64; i++) {
        size_t n = fread(block, 1, sizeof block, from);
        assert_int_equal(write(fd, block, n), n);
    }
    fclose(from);
    close(fd);
    struct err err = ERR_INIT;
    struct engine_config config = {.path = path, .memory_map = true};
    assert_null(engine_llama.open(&config, &err));
    unlink(path);
    assert_int_equal(err.code, ERR_MODEL_LOAD_FAILED);
    assert_null(strstr(err.message, "no reason"));
    config.path = "/nonexistent.gguf";
    assert_null(engine_llama.open(&config, &err));
    assert_int_equal(err.code, ERR_MODEL_LOAD_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_completion_knows_paris),
        cmocka_unit_test(large_vocabulary_works),
        cmocka_unit_test(batch_equals_singles),
        cmocka_unit_test(prefixes_are_reused),
        cmocka_unit_test(a_prefix_comes_back_from_the_store),
        cmocka_unit_test(sliding_windows_are_known),
        cmocka_unit_test(choices_share_a_prefill),
        cmocka_unit_test(logprobs_are_probabilities),
        cmocka_unit_test(long_prompts_are_scored_in_pieces),
        cmocka_unit_test(guesses_change_the_steps_and_not_the_text),
        cmocka_unit_test(json_grammar_holds),
        cmocka_unit_test(chat_models_embed_with_mean_pooling),
        cmocka_unit_test(truncated_file_fails_with_the_reason),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
