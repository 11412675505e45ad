/* Many requests given at once: POST /v1/batch, and OpenAI's files and batches. */
#ifndef API_BATCH_BATCH_H
#define API_BATCH_BATCH_H

#include "api/app.h"

http_handler batch_call;

#endif
