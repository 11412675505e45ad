#ifndef API_OPENAI_MODELS_H
#define API_OPENAI_MODELS_H

#include "http/route.h"

void models_list_routes(struct http_router *router);

#endif
