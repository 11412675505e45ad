/* Log lines to stderr or a file: level, time, message, then key=value pairs; or one JSON object a line. Any thread.
 * Never pass a secret. */
#ifndef OBS_LOG_H
#define OBS_LOG_H

#include <stdbool.h>

#include "base/err.h"

enum log_level { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_PRETTY, LOG_COMPACT, LOG_JSON };

void log_set_level(enum log_level level);
void log_setup(enum log_level level, enum log_format format, const char *component); /* component: "serve", "worker" */
bool log_to_file(const char *path, struct err *err); /* appends; reopened by log_reopen */
void log_reopen(void);
bool log_enabled(enum log_level level);

/* message is a constant phrase; format is NULL or a printf format of blank-separated key=value pairs:
 *     log_info("model loaded", "model=%s ms=%u", name, ms);
 * A value that may hold blanks is written last in the list; line ends and control characters are escaped here. */
void log_write(enum log_level level, const char *message, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

#endif
