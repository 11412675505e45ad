/* llamactl's configuration file as ours. */
#ifndef CLI_LLAMACTL_YAML_H
#define CLI_LLAMACTL_YAML_H

#include "base/buf.h"
#include "base/err.h"

/* Appends the TOML that says the same; ${VAR} and ${VAR:-default} are filled in as llamactl does. What has no place
 * here is kept as a comment. false: the file cannot be read or is no such configuration (ERR_CONFIG, with the line). */
bool llamactl_yaml_to_toml(const char *path, struct buf *toml, struct err *err);

#endif
