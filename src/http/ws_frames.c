#include "http/ws_frames.h"

#include <sys/types.h>

#include "base/mem.h"

static ssize_t give_input(uint8_t *room, size_t n, int flags, void *arg)
{
    struct ws_frames *frames = arg;
    (void)flags;
    if (n > frames->input.n)
        n = frames->input.n;
    if (n == 0)
        return -1; /* wslay: nothing there */
    memcpy(room, frames->input.p, n);
    frames->input.p += n;
    frames->input.n -= n;
    frames->taken += n;
    return (ssize_t)n;
}

struct ws_frames *ws_frames_new(void)
{
    static const struct wslay_frame_callbacks callbacks = {.recv_callback = give_input};
    struct ws_frames *frames = mem_calloc(1, sizeof *frames);
    if (wslay_frame_context_init(&frames->reader, &callbacks, frames) == 0)
        return frames;
    mem_free(frames);
    return NULL;
}

void ws_frames_free(struct ws_frames *frames)
{
    if (!frames)
        return;
    wslay_frame_context_free(frames->reader);
    mem_free(frames);
}
