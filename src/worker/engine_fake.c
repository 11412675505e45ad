/* An engine without weights, for speed and fault tests of everything above it. A token is a byte; what comes next is a
 * function of the whole sequence, so a wrong copy, trim or position shows as another text:
 *   - when the sequence holds a '|', all before it is repeated for ever: "hello |" goes on "hello |hello |..."; a byte
 *     3 (ETX) in it stands for the end token, so "hi\3|" answers "hi" and stops;
 *   - otherwise letters picked by a hash of all tokens, and with emoji=1 now and then a character of four tokens.
 *
 * config->path is "fake:" and a comma-separated list of settings (all numbers, all optional):
 *   tokens_per_second=N  a decode step takes 1/N seconds      prefill=N   each prompt token takes 1/N seconds
 *   vocab=N              at least 260                         context=N   cells shared by all sequences
 *   sequences=N          load_ms=N                            fail_after=N  the N-th decode fails
 *   emoji=1              trim=0: sequences cannot be cut      batch=N     rows of one decode
 *   window=N: what has left the last N tokens of a sequence is gone, as with sliding windows
 *   rows=N               each guessed row takes 1/N seconds; not set: as long as a decode step, so guesses gain nothing
 *   threads=N            that the engine says it has
 *   rank=1: a cross-encoder, whose score is the share of a document's bytes that the query has, too
 * It keeps no KV, but counts cells as a real cache would. */
#include <errno.h>

#include "base/mem.h"
#include "worker/engine.h"
#include "worker/seq.h"

#define BOS              256
#define EOS              257
#define LEAST_VOCABULARY 260
#define EMBEDDING        16
#define ETX              3
#define LOUD             12.0f /* logit of the token meant */
#define QUIET            8.0f  /* of any letter */
#define PROGRESS         10    /* calls of on_progress */
#define HOLDERS          4     /* sequence ids for each sequence that decodes */
#define SCORED           8     /* rows of logits besides one a sequence */

struct fake_settings {
    uint64_t tokens_per_second, prefill, vocab, context, sequences, load_ms, fail_after, emoji, trim, batch, rank, rows,
        threads, window;
};

struct engine {
    struct engine_info info;
    struct fake_settings settings;
    struct seq_table table;
    float *logits; /* batch rows of the vocabulary */
    uint64_t decodes;
};

static bool read_setting(struct fake_settings *settings, struct str name, struct str value, struct err *err)
{
    const struct {
        const char *name;
        uint64_t *target;
        uint64_t max;
    } table[] = {{"tokens_per_second", &settings->tokens_per_second, 1000000000},
                 {"prefill", &settings->prefill, 1000000000},
                 {"vocab", &settings->vocab, 1u << 20},
                 {"context", &settings->context, 1u << 24},
                 {"sequences", &settings->sequences, LIMIT_SEQUENCES},
                 {"load_ms", &settings->load_ms, LIMIT_START_MS},
                 {"fail_after", &settings->fail_after, UINT64_MAX},
                 {"emoji", &settings->emoji, 1},
                 {"trim", &settings->trim, 1},
                 {"batch", &settings->batch, 4096},
                 {"rank", &settings->rank, 1},
                 {"rows", &settings->rows, 1000000000},
                 {"threads", &settings->threads, LIMIT_THREADS},
                 {"window", &settings->window, 1u << 24}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (str_eq(name, str_from(table[i].name)) && str_u64(value, table[i].max, table[i].target))
            return true;
    return err_set(err, ERR_MODEL_LOAD_FAILED, "the fake engine does not understand \"" STR_FMT "=" STR_FMT "\"",
                   STR_ARG(name), STR_ARG(value));
}

static bool read_settings(struct fake_settings *settings, const struct engine_config *config, struct err *err)
{
    struct str rest = str_from(config->path);
    *settings =
        (struct fake_settings){.vocab = LEAST_VOCABULARY, .context = 4096, .sequences = 16, .trim = 1, .batch = 512};
    settings->threads = 1;
    if (config->context_size)
        settings->context = config->context_size;
    if (config->sequences)
        settings->sequences = config->sequences;
    if (config->batch)
        settings->batch = config->batch;
    str_cut(&rest, ':');
    while (rest.p && rest.n > 0) {
        struct str value = str_cut(&rest, ','), name = str_cut(&value, '=');
        if (!read_setting(settings, name, value.p ? value : STR(""), err))
            return false;
    }
    settings->vocab = settings->vocab < LEAST_VOCABULARY ? LEAST_VOCABULARY : settings->vocab;
    return true;
}

static void pass_time(double seconds)
{
    struct timespec left = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (seconds > 0 && nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

static bool pretend_loading(const struct fake_settings *settings, const struct engine_config *config, struct err *err)
{
    for (int i = 1; i <= PROGRESS; i++) {
        pass_time((double)settings->load_ms / 1000 / PROGRESS);
        if (config->on_progress && !config->on_progress(config->arg, (float)i / PROGRESS))
            return err_set(err, ERR_MODEL_LOAD_FAILED, "loading was stopped");
    }
    return true;
}

static struct engine *fake_open(const struct engine_config *config, struct err *err)
{
    struct fake_settings settings;
    if (!read_settings(&settings, config, err) || !pretend_loading(&settings, config, err))
        return NULL;
    struct engine *engine = mem_calloc(1, sizeof *engine);
    engine->settings = settings;
    unsigned batch = (unsigned)(settings.batch < settings.sequences ? settings.sequences : settings.batch);
    engine->info =
        (struct engine_info){.name = "fake",
                             .build = "1",
                             .description = "fake",
                             .architecture = "fake",
                             .quantization = "none",
                             .model_name = "fake",
                             .chat_template = "",
                             .rerank_template = "",
                             .bos_text = "<bos>",
                             .eos_text = "<eos>",
                             .vocabulary = (unsigned)settings.vocab,
                             .context = (unsigned)settings.context,
                             .context_sequence = (unsigned)settings.context,
                             .context_train = (unsigned)settings.context,
                             .embedding_size = EMBEDDING,
                             .input_size = EMBEDDING,
                             .sequences = (unsigned)settings.sequences,
                             .holders = (unsigned)(settings.trim ? HOLDERS : 1) * (unsigned)settings.sequences,
                             .outputs = (unsigned)settings.sequences + SCORED,
                             .batch = batch,
                             .ubatch = batch,
                             .threads = (unsigned)settings.threads,
                             .pooling = settings.rank ? ENGINE_POOLING_RANK : ENGINE_POOLING_MEAN,
                             .add_bos = settings.rank != 0,
                             .add_eos = settings.rank != 0,
                             .can_trim = settings.trim != 0,
                             .whole_states = settings.trim == 0 || settings.window > 0,
                             .bos = BOS,
                             .eos = EOS,
                             .sep = ENGINE_TOKEN_NONE,
                             .fim_prefix = ENGINE_TOKEN_NONE,
                             .fim_suffix = ENGINE_TOKEN_NONE,
                             .fim_middle = ENGINE_TOKEN_NONE};
    seq_table_init(&engine->table, engine->info.holders, engine->info.context);
    engine->logits = mem_calloc(batch, settings.vocab * sizeof *engine->logits);
    return engine;
}

static void fake_close(struct engine *engine)
{
    if (!engine)
        return;
    seq_table_release(&engine->table);
    mem_free(engine->logits);
    mem_free(engine);
}

static const struct engine_info *fake_info(const struct engine *engine)
{
    return &engine->info;
}

/* ---- vocabulary ---- */

static int fake_tokenize(const struct engine *engine, struct str text, bool add_special, bool parse_special,
                         engine_token *out, int capacity)
{
    int count = 0;
    (void)engine, (void)add_special;
    while (text.n > 0) {
        struct str head = {text.p, text.n < 5 ? text.n : 5};
        bool bos = parse_special && str_eq(head, STR("<bos>")), eos = parse_special && str_eq(head, STR("<eos>"));
        size_t used = bos || eos ? head.n : 1;
        if (count < capacity)
            out[count] = bos ? BOS : eos ? EOS : (unsigned char)*text.p;
        count++;
        text = (struct str){text.p + used, text.n - used};
    }
    return count;
}

static int fake_piece(const struct engine *engine, engine_token token, bool special, char *out, int capacity)
{
    const char *name = token == BOS ? "<bos>" : token == EOS ? "<eos>" : "";
    char byte = (char)token;
    bool plain = token >= 0 && token < BOS;
    int length = plain ? 1 : special ? (int)strlen(name) : 0;
    (void)engine;
    if (length <= capacity)
        memcpy(out, plain ? &byte : name, (size_t)length);
    return length;
}

static bool fake_is_end(const struct engine *engine, engine_token token)
{
    (void)engine;
    return token == EOS;
}

/* ---- decode ---- */

static uint64_t hash(const engine_token *tokens, unsigned count)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (unsigned i = 0; i < count; i++)
        h = (h ^ (uint64_t)(uint32_t)tokens[i]) * 0x100000001b3u;
    return h ^ (h >> 29);
}

static engine_token next_of_emoji(const engine_token *tokens, unsigned count)
{
    static const engine_token emoji[] = {0xf0, 0x9f, 0x98, 0x80};
    for (unsigned have = 3; have > 0; have--) {
        unsigned same = 0;
        while (same < have && count >= have && tokens[count - have + same] == emoji[same])
            same++;
        if (same == have)
            return emoji[have];
    }
    return hash(tokens, count) % 4 == 0 ? emoji[0] : ENGINE_TOKEN_NONE;
}

static engine_token next_token(const struct engine *engine, const engine_token *tokens, unsigned count)
{
    unsigned period = 0;
    while (period < count && tokens[period] != '|')
        period++;
    if (period < count) {
        engine_token token = tokens[count % (period + 1)];
        return token == ETX ? EOS : token < 0 ? '#' : token; /* a picture's cell cannot be said */
    }
    engine_token token = engine->settings.emoji ? next_of_emoji(tokens, count) : ENGINE_TOKEN_NONE;
    return token != ENGINE_TOKEN_NONE ? token : (engine_token)('a' + hash(tokens, count) % 26);
}

static void fill_logits(const struct engine *engine, const struct engine_row *row, float *logits)
{
    memset(logits, 0, engine->info.vocabulary * sizeof *logits);
    for (int letter = 'a'; letter <= 'z'; letter++)
        logits[letter] = QUIET;
    logits[next_token(engine, engine->table.seqs[row->sequence].tokens, row->position + 1)] = LOUD;
}

/* A sequence's first row counts as decoding when its logits are wanted, and those behind it as guesses; anything else
 * is prefill. Sequences decode side by side, guesses too. */
static double duration(const struct engine *engine, const struct engine_row *rows, unsigned count)
{
    const struct fake_settings *settings = &engine->settings;
    unsigned prefill = 0, guesses = 0, run = 0;
    bool decodes = false;
    for (unsigned i = 0; i < count; i++) {
        run = i > 0 && rows[i - 1].sequence == rows[i].sequence && rows[i - 1].logits && rows[i].logits ? run + 1 : 0;
        bool last = i + 1 == count || rows[i + 1].sequence != rows[i].sequence;
        bool first = i == 0 || rows[i - 1].sequence != rows[i].sequence;
        decodes |= first && rows[i].logits;
        prefill += !rows[i].logits || (last && !first && run == 0);
        guesses = run > guesses ? run : guesses;
    }
    uint64_t guess_rate = settings->rows ? settings->rows : settings->tokens_per_second;
    return (decodes && settings->tokens_per_second ? 1.0 / (double)settings->tokens_per_second : 0) +
           (guess_rate ? guesses / (double)guess_rate : 0) +
           (settings->prefill ? prefill / (double)settings->prefill : 0);
}

static enum engine_status fake_decode(struct engine *engine, const struct engine_row *rows, unsigned count,
                                      const struct engine_stop *stop)
{
    if (stop && stop->asked(stop->arg))
        return ENGINE_INTERRUPTED;
    if (engine->settings.fail_after && ++engine->decodes >= engine->settings.fail_after)
        return ENGINE_FAILED;
    if (engine->table.cells - engine->table.cells_used < count)
        return ENGINE_FULL;
    unsigned outputs = 0;
    for (unsigned i = 0; i < count; i++)
        outputs += rows[i].logits;
    if (outputs > engine->info.outputs)
        return ENGINE_FAILED; /* as llama.cpp would, which aborts */
    for (unsigned i = 0; i < count; i++)
        if (rows[i].token < 0 || rows[i].position != engine->table.seqs[rows[i].sequence].count)
            return ENGINE_FAILED; /* no token, a hole or an overlap: the scheduler has lost track */
        else
            seq_append(&engine->table, rows[i].sequence, &rows[i].token, 1);
    for (unsigned i = 0; i < count; i++)
        if (rows[i].logits)
            fill_logits(engine, &rows[i], engine->logits + (size_t)i * engine->info.vocabulary);
    pass_time(duration(engine, rows, count));
    return ENGINE_OK;
}

/* What the cells are computed from is nothing to this engine: their ids are. */
static enum engine_status fake_decode_span(struct engine *engine, const struct engine_span *span,
                                           const struct engine_stop *stop)
{
    if (stop && stop->asked(stop->arg))
        return ENGINE_INTERRUPTED;
    if (engine->table.cells - engine->table.cells_used < span->count)
        return ENGINE_FULL;
    if (span->position != engine->table.seqs[span->sequence].count || span->count > engine->info.ubatch)
        return ENGINE_FAILED;
    seq_append(&engine->table, span->sequence, span->ids, span->count);
    struct engine_row last = {.sequence = span->sequence, .position = span->position + span->count - 1};
    if (span->logits)
        fill_logits(engine, &last, engine->logits + (size_t)(span->count - 1) * engine->info.vocabulary);
    pass_time(engine->settings.prefill ? span->count / (double)engine->settings.prefill : 0);
    return ENGINE_OK;
}

static float *fake_logits(struct engine *engine, unsigned row)
{
    return engine->logits + (size_t)row * engine->info.vocabulary;
}

/* Of <bos> query <eos> document <eos>. */
static float score(const engine_token *tokens, unsigned count)
{
    unsigned middle = 0, shared = 0, length = 0;
    while (middle < count && tokens[middle] != EOS)
        middle++;
    for (unsigned i = middle + 1; i + 1 < count; i++, length++)
        for (unsigned q = 1; q < middle; q++)
            if (tokens[q] == tokens[i]) {
                shared++;
                break;
            }
    return length ? (float)shared / (float)length : 0;
}

static enum engine_status fake_embed(struct engine *engine, const engine_token *tokens, unsigned count, float *out)
{
    uint64_t h = hash(tokens, count);
    if (count > engine->info.context_sequence)
        return ENGINE_FULL;
    for (unsigned i = 0; i < EMBEDDING; i++, h = h * 6364136223846793005u + 1442695040888963407u)
        out[i] = (float)(int32_t)(h >> 32) / 2147483648.0f;
    if (engine->settings.rank)
        out[0] = score(tokens, count);
    pass_time(engine->settings.prefill ? count / (double)engine->settings.prefill : 0);
    return ENGINE_OK;
}

static void fake_copy(struct engine *engine, unsigned from, unsigned to, unsigned length)
{
    seq_copy(&engine->table, from, to, engine->info.can_trim ? length : engine->table.seqs[from].count);
}

static bool fake_trim(struct engine *engine, unsigned sequence, unsigned length)
{
    if (length > 0 && !engine->info.can_trim)
        return false;
    seq_trim(&engine->table, sequence, length);
    return true;
}

/* window=N: as if everything before the last N tokens were gone. */
static bool fake_has(struct engine *engine, unsigned sequence, unsigned length)
{
    uint64_t window = engine->settings.window, count = engine->table.seqs[sequence].count;
    return window == 0 || count <= window || count - window <= (length > window ? length - window : 0);
}

/* A state is the tokens, so that a wrong one shows as another text. */
static size_t fake_state_size(struct engine *engine, unsigned sequence)
{
    return engine->table.seqs[sequence].count * sizeof(engine_token);
}

static size_t fake_state_save(struct engine *engine, unsigned sequence, void *out, size_t capacity)
{
    size_t size = fake_state_size(engine, sequence);
    if (size == 0 || size > capacity)
        return 0;
    memcpy(out, engine->table.seqs[sequence].tokens, size);
    return size;
}

static bool fake_state_load(struct engine *engine, unsigned sequence, const void *state, size_t size)
{
    unsigned count = (unsigned)(size / sizeof(engine_token));
    if (engine->table.seqs[sequence].count > 0 || engine->table.cells - engine->table.cells_used < count)
        return false;
    seq_append(&engine->table, sequence, state, count);
    return true;
}

static struct engine_grammar *fake_grammar_new(const struct engine *engine, const char *text, bool lazy,
                                               const char *const *patterns, size_t pattern_count,
                                               const engine_token *tokens, size_t token_count, struct err *err)
{
    (void)engine, (void)text, (void)lazy, (void)patterns, (void)pattern_count, (void)tokens, (void)token_count;
    err_set_param(err, ERR_NOT_SUPPORTED, "grammar", "the fake engine knows no grammars");
    return NULL;
}

/* No grammar can exist, so the other grammar functions are never called. */
const struct engine_ops engine_fake = {
    .name = "fake",
    .open = fake_open,
    .close = fake_close,
    .info = fake_info,
    .tokenize = fake_tokenize,
    .piece = fake_piece,
    .is_end = fake_is_end,
    .decode = fake_decode,
    .decode_span = fake_decode_span,
    .logits = fake_logits,
    .embed = fake_embed,
    .sequence_copy = fake_copy,
    .sequence_trim = fake_trim,
    .sequence_has = fake_has,
    .state_size = fake_state_size,
    .state_save = fake_state_save,
    .state_load = fake_state_load,
    .grammar_new = fake_grammar_new,
};
