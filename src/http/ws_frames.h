/* wslay's reader of frames with the bytes it is fed, and what ws.c keeps beside it while a frame is incomplete. */
#ifndef HTTP_WS_FRAMES_H
#define HTTP_WS_FRAMES_H

#include <wslay/wslay.h>

#include "base/str.h"

#define WS_CONTROL_MAX 125 /* payload of a control frame; wslay refuses longer ones */

struct ws_frames {
    wslay_frame_context_ptr reader;
    struct str input; /* not given to the reader yet; set before it is called */
    uint64_t taken;   /* bytes the reader has of frames that it has not given out whole */
    uint64_t seen;    /* payload of the current frame given out so far */
    char control[WS_CONTROL_MAX];
};

struct ws_frames *ws_frames_new(void);         /* NULL: no memory */
void ws_frames_free(struct ws_frames *frames); /* NULL is fine */

#endif
