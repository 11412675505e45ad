/* The daemon: listeners, surfaces, signals, drain. */
#ifndef SERVE_H
#define SERVE_H

#include "conf/conf.h"

/* Runs until SIGTERM or SIGINT and returns the exit status (specs/inferno.md 6.3): 0, 3 configuration, 5 network. The
 * first signal drains for shutdown_grace_seconds, the second ends at once. SIGHUP reopens the log file and reads
 * configuration and certificate again: reload fills a fresh configuration as conf was filled. program is this binary's
 * path. */
typedef bool gateway_reload(void *arg, struct conf *ret_conf, struct err *err);
int gateway_run(struct conf *conf, const char *program, gateway_reload *reload, void *arg);

#endif
