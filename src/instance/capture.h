/* What a program prints, as for --help and --version. */
#ifndef INSTANCE_CAPTURE_H
#define INSTANCE_CAPTURE_H

#include "base/buf.h"
#include "base/err.h"

/* Runs argv (NULL-terminated; argv[0] a path, or a name looked up on PATH) without input and appends its standard
 * output and error to out, in their order. It is killed with its group after timeout_ms. ret_status may be NULL.
 * Blocking: pool threads. false: it could not be started (ERR_START_FAILED), or was late (ERR_TIMEOUT). */
bool capture(const char *const *argv, const char *const *environment, unsigned timeout_ms, struct buf *out,
             int *ret_status, struct err *err);

#endif
