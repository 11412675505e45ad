/* Handlers of the Responses surface that look at what is kept; the one that makes responses is create.c. */
#ifndef API_RESPONSES_RESPONSES_H
#define API_RESPONSES_RESPONSES_H

#include "http/route.h"

http_handler response_create;

#endif
