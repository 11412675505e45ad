/* What others take of a device is seen whenever one of our workers looks: room is what was free then and what our
 * workers held then. Drivers that do not say what is free (it is then all of it, always) come out right, too: what is
 * left is the total less what our workers hold. */
#include "instance/gpu.h"

#include "base/build.h"
#include "base/mem.h"
#include "instance/capture.h"
#include "instance/instance_private.h"
#include "obs/log.h"

#define ANSWER_MS    30000 /* a driver that is started for the first time may compile */
#define ANSWER_BYTES 65536

/* ---- asking ---- */

struct question {
    struct loop_job job;
    struct instances *all;
    struct buf answer;
    bool answered;
    struct err err;
};

static void ask(struct loop_job *job)
{
    struct question *q = container_of(job, struct question, job);
    const char *argv[] = {q->all->program, "worker", "--list-devices", NULL};
    int status = 0;
    q->answered = capture(argv, NULL, ANSWER_MS, &q->answer, &status, &q->err) && status == 0;
}

/* The line that is an array; drivers print, too. */
static json_t *read_answer(struct str text, struct err *err)
{
    while (text.n) {
        struct str line = str_cut(&text, '\n');
        if (str_starts(line, STR("[")))
            return json_read(line, err);
    }
    err_set(err, ERR_START_FAILED, "the answer is not understood");
    return NULL;
}

static void take_text(const json_t *from, const char *key, char *to, size_t size)
{
    const char *text = json_string_value(json_object_get(from, key));
    snprintf(to, size, "%s", text ? text : "");
}

static void take_device(struct gpus *gpus, const json_t *from)
{
    struct device *d = &gpus->devices[gpus->count];
    take_text(from, "name", d->name, sizeof d->name);
    take_text(from, "backend", d->backend, sizeof d->backend);
    take_text(from, "description", d->description, sizeof d->description);
    d->integrated = json_is_true(json_object_get(from, "integrated"));
    d->total = (uint64_t)json_integer_value(json_object_get(from, "total_bytes"));
    d->free = (uint64_t)json_integer_value(json_object_get(from, "free_bytes"));
    gpus->room[gpus->count++] = d->free;
    log_info("GPU", "device=%s total_mb=%llu free_mb=%llu description=%s", d->name,
             (unsigned long long)(d->total >> 20), (unsigned long long)(d->free >> 20), d->description);
}

static void answered(struct loop_job *job)
{
    struct question *q = container_of(job, struct question, job);
    struct instances *all = q->all;
    json_t *list = q->answered ? read_answer(buf_view(&q->answer), &q->err) : NULL;
    for (size_t i = 0; i < json_array_size(list) && all->gpus.count < LIMIT_DEVICES; i++)
        take_device(&all->gpus, json_array_get(list, i));
    if (!list)
        log_warn("GPUs are not counted", "reason=%s", q->err.message);
    else if (all->gpus.count == 0)
        log_info("no GPU is here", "backends=%s", build_backends());
    json_decref(list);
    buf_release(&q->answer);
    mem_free(q);
    all->jobs--;
    instances_look_at_queue(all);
    instances_check_stopped(all);
}

void gpus_ask(struct instances *all)
{
    if (!build_has_gpu() || all->conf->gpu_enabled == 0 || all->gpus.asked)
        return;
    all->gpus.asked = true;
    struct question *q = mem_calloc(1, sizeof *q);
    q->all = all;
    q->err = ERR_INIT;
    buf_init(&q->answer, ANSWER_BYTES);
    all->jobs++;
    loop_work(all->loop, &q->job, ask, answered);
}

/* ---- the ledger ---- */

static const struct worker_device *reported(const struct instance *i, const char *name)
{
    for (unsigned d = 0; d < i->memory.device_count; d++)
        if (strcmp(i->memory.devices[d].name, name) == 0)
            return &i->memory.devices[d];
    return NULL;
}

/* A worker that is ready and does not name the device has put nothing there. */
uint64_t gpu_held_by(const struct instance *i, unsigned place)
{
    const struct worker_device *d = reported(i, i->all->gpus.devices[place].name);
    if (d)
        return d->weights + d->kv + d->compute;
    return i->memory.weights || !instance_has_slot(i) ? 0 : i->gpu_granted[place];
}

static uint64_t held(const struct instances *all, unsigned place, const struct instance *but)
{
    uint64_t bytes = 0;
    list_each (i, &all->list, struct instance, link)
        bytes += i == but ? 0 : gpu_held_by(i, place);
    return bytes;
}

void gpus_seen(struct instances *all, const struct worker_device *seen)
{
    int place = device_find(all->gpus.devices, all->gpus.count, str_from(seen->name));
    if (place < 0)
        return;
    uint64_t room = seen->free;
    list_each (i, &all->list, struct instance, link) { /* not what was granted only: it may not be taken yet */
        const struct worker_device *d = reported(i, seen->name);
        room += d ? d->weights + d->kv + d->compute : 0;
    }
    all->gpus.room[place] = room < seen->total ? room : seen->total;
}

/* Places of the configured devices in their order; all when none is named. */
static unsigned chosen(const struct instances *all, unsigned *ret_places)
{
    struct str rest = str_from(all->conf->gpu_device);
    unsigned count = 0;
    if (all->conf->gpu_enabled == 0)
        return 0;
    for (unsigned d = 0; !rest.n && d < all->gpus.count; d++)
        ret_places[count++] = d;
    while (rest.n && count < LIMIT_DEVICES) {
        int place = device_find(all->gpus.devices, all->gpus.count, str_trim(str_cut(&rest, ',')));
        bool again = false;
        for (unsigned n = 0; n < count; n++)
            again |= ret_places[n] == (unsigned)place;
        if (place >= 0 && !again)
            ret_places[count++] = (unsigned)place;
    }
    return count;
}

void gpus_room(const struct instances *all, const struct instance *but, struct gpu_room *ret_room, unsigned *ret_places)
{
    uint64_t cap = (uint64_t)all->conf->gpu_memory_mb << 20;
    ret_room->count = chosen(all, ret_places);
    for (unsigned n = 0; n < ret_room->count; n++) {
        struct device d = all->gpus.devices[ret_places[n]];
        d.free = all->gpus.room[ret_places[n]];
        ret_room->limits[n] = device_usable(&d, cap);
        ret_room->held[n] = held(all, ret_places[n], but);
    }
}

uint64_t gpu_relief(const struct instance *i)
{
    uint64_t bytes = 0;
    for (unsigned d = 0; d < i->all->gpus.count; d++)
        bytes += i->all->gpus.devices[d].integrated ? 0 : gpu_held_by(i, d);
    return bytes < i->memory_estimate ? bytes : i->memory_estimate;
}

void gpu_wish(struct instance *i, const struct gguf *gguf, const struct fit *fit, int64_t layers)
{
    gpus_ask(i->all); /* it may have been switched on since the start */
    unsigned places[LIMIT_DEVICES], count = chosen(i->all, places);
    i->gpu_asked = layers > 0;
    i->gpu_need = fit_on_gpus(gguf, fit, layers < 0 ? UINT32_MAX : (uint64_t)layers, count);
}

static void look(const struct instance *i, struct gpu_room *room, unsigned *places, uint64_t *wishes)
{
    gpus_room(i->all, i, room, places);
    gpu_room_spread(room, i->gpu_need, wishes);
}

int gpu_find_short(const struct instance *i)
{
    struct gpu_room room;
    unsigned places[LIMIT_DEVICES];
    uint64_t wishes[LIMIT_DEVICES];
    look(i, &room, places, wishes);
    int at = gpu_room_short(&room, wishes);
    return at < 0 ? -1 : (int)places[at];
}

void gpu_grant(struct instance *i)
{
    struct gpu_room room;
    unsigned places[LIMIT_DEVICES];
    uint64_t wishes[LIMIT_DEVICES], granted[LIMIT_DEVICES];
    look(i, &room, places, wishes);
    gpu_room_grant(&room, wishes, granted);
    memset(i->gpu_granted, 0, sizeof i->gpu_granted);
    for (unsigned n = 0; n < room.count; n++)
        i->gpu_granted[places[n]] = granted[n];
}

/* Does another one hold a grant that its worker has not taken yet? */
static bool is_crowded(const struct instance *i)
{
    list_each (other, &i->all->list, struct instance, link)
        for (unsigned d = 0; other != i && d < i->all->gpus.count; d++)
            if (!reported(other, i->all->gpus.devices[d].name) && gpu_held_by(other, d) > 0)
                return true;
    return false;
}

const char *gpu_caps(const struct instance *i, struct arena *arena)
{
    struct gpu_room room;
    unsigned places[LIMIT_DEVICES];
    int64_t cap = i->all->conf->gpu_memory_mb;
    gpus_room(i->all, i, &room, places);
    if (cap == 0 && !is_crowded(i))
        return NULL;
    if (room.count == 0)
        return cap ? arena_printf(arena, "%lld", (long long)cap) : NULL;
    const char *text = "";
    for (unsigned n = 0; n < room.count; n++) {
        uint64_t left = room.limits[n] > room.held[n] ? (room.limits[n] - room.held[n]) >> 20 : 0;
        text = arena_printf(arena, "%s%s%llu", text, n ? "," : "", left ? (unsigned long long)left : 1); /* 0: no cap */
    }
    return text;
}

unsigned instances_gpus(const struct instances *all, struct gpu_status out[LIMIT_DEVICES])
{
    for (unsigned d = 0; d < all->gpus.count; d++) {
        uint64_t ours = held(all, d, NULL), room = all->gpus.room[d];
        out[d] = (struct gpu_status){.device = all->gpus.devices[d], .used = ours};
        out[d].device.free = room > ours ? room - ours : 0;
    }
    return all->gpus.count;
}
