/* The measurements as JSON, for people and scripts: /metrics/json, /metrics/snapshot, /v1/status. */
#ifndef API_SYSTEM_SNAPSHOT_H
#define API_SYSTEM_SNAPSHOT_H

#include "http/route.h"

http_handler snapshot_reply, status_reply;

#endif
