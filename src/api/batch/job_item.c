/* A batch's lines as items of the pool, and what came of them as lines of its outputs. */
#include "api/batch/job_private.h"
#include "api/batch/owner.h"
#include "base/json_copy.h"
#include "base/mem.h"
#include "openai/error.h"

static struct batch *batch_of_source(struct batch_source *source)
{
    return container_of(source, struct batch, source);
}

static struct line *pop_ready(struct batch *b)
{
    struct line *line = list_first(&b->ready, struct line, link);
    list_remove(&line->link);
    b->ready_count--;
    b->ready_bytes -= line->length;
    return line;
}

/* A line that was good when the input was checked. */
static bool fill(struct batch *b, struct batch_item *item, const struct line *line, struct err *err)
{
    struct batch_request request;
    if (!owner_caller(b->all->app, &item->arena, b->row.owner, &item->caller, err) ||
        !batch_line_read((struct str){line->text, line->length}, b->row.endpoint, &item->arena, &request, err))
        return false;
    item->path = b->row.endpoint;
    item->body = request.body;
    item->label = request.custom_id;
    item->number = line->number;
    item->address = STR("");
    item->request_id = batch_new_id(&item->arena, "batch_req_").p;
    return true;
}

struct batch_item *batch_next_item(struct batch_source *source)
{
    struct batch *b = batch_of_source(source);
    struct err err;
    if (list_empty(&b->ready) || batch_pending_bytes(b) > LIMIT_BATCH_AHEAD) {
        batch_advance(b);
        return NULL;
    }
    struct batch_item *item = batch_item_new(source);
    struct line *line = pop_ready(b);
    bool good = fill(b, item, line, &err);
    mem_free(line);
    if (!good) {
        batch_item_drop(item);
        batch_fail(b, &err);
        batch_advance(b);
        return NULL;
    }
    if (!b->busy && batch_wants_lines(b)) /* the item does not run yet: without it the batch may look complete */
        batch_advance(b);
    return item;
}

/* A reply as one line. STR_NONE: it cannot be one. */
static struct str one_line(struct str reply, struct arena *arena, struct err *err)
{
    if (reply.n > LIMIT_BATCH_LINE / 2) {
        err_set(err, ERR_BAD_GATEWAY, "the reply has more than %u bytes", LIMIT_BATCH_LINE / 2);
        return STR_NONE;
    }
    if (!memchr(reply.p, '\n', reply.n))
        return reply;
    json_t *document = json_read(reply, NULL);
    struct str text = json_text(document, arena);
    json_decref(document);
    if (!text.p)
        err_set(err, ERR_BAD_GATEWAY, "the backend's reply is no JSON");
    return text;
}

static void write_outcome(struct buf *out, const struct batch_item *item, struct str reply, const struct err *err)
{
    struct json j;
    json_begin(&j, out);
    json_open_object(&j, NULL);
    json_put_string(&j, "id", item->request_id);
    json_put_text(&j, "custom_id", item->label);
    json_open_object(&j, "response");
    json_put_int(&j, "status_code", err ? err_status(err->code) : 200);
    json_put_string(&j, "request_id", item->request_id);
    if (err) {
        json_open_object(&j, "body");
        openai_error_put(&j, "error", err);
        json_close(&j);
    } else {
        json_put_raw(&j, "body", reply);
    }
    json_close(&j);
    json_put_null(&j, "error");
    json_close(&j);
    json_finish(&j);
    buf_putc(out, '\n');
}

/* Whether the item failed because its owner's right ended: then the whole batch does. */
static bool owner_is_lost(struct batch *b, const struct err *err, struct err *ret_why)
{
    const struct caller *caller;
    struct arena arena;
    if (!err || err->code != ERR_AUTHENTICATION_FAILED)
        return false;
    arena_init(&arena);
    bool lost = !owner_caller(b->all->app, &arena, b->row.owner, &caller, ret_why);
    arena_dispose(&arena);
    return lost;
}

void batch_on_item(struct batch_source *source, const struct batch_item *item, struct str reply, const struct err *err)
{
    struct batch *b = batch_of_source(source);
    struct arena arena;
    struct err why;
    arena_init(&arena);
    if (owner_is_lost(b, err, &why)) {
        batch_fail(b, &why);
    } else {
        struct str line = err ? STR_NONE : one_line(reply, &arena, &why);
        if (!err && !line.p)
            err = &why;
        struct batch_output *output = &b->outputs[err ? REFUSED : SUCCEEDED];
        write_outcome(&output->pending, item, line, err);
        output->pending_lines++;
        b->input.lines[item->number].done = true;
    }
    arena_dispose(&arena);
    batch_advance(b);
}
