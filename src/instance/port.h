/* The address a backend is told to listen on, and we reach it at. Loop thread only. */
#ifndef INSTANCE_PORT_H
#define INSTANCE_PORT_H

#include "instance/backend.h"

struct instance;

/* Fills in->host, in->port (the options' own, else a free one of instances.port_range: asked of the system, not only of
 * our books) and the instance's target. ERR_START_FAILED: the port belongs to somebody else, or none is free. */
bool port_take(struct instance *i, struct backend_input *in, struct err *err);

#endif
