/* What this program was built with. */
#ifndef BASE_BUILD_H
#define BASE_BUILD_H

#include <stdbool.h>

/* The engine's backends, with commas: "cpu", "cpu,vulkan". */
const char *build_backends(void);

/* Is there one for GPUs among them? */
bool build_has_gpu(void);

#endif
