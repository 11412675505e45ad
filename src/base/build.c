#include "base/build.h"

#ifndef INFERD_GPU
#define INFERD_GPU "" /* CMakeLists.txt names the backend of a GPU build */
#endif

bool build_has_gpu(void)
{
    return sizeof INFERD_GPU > 1;
}

const char *build_backends(void)
{
    return build_has_gpu() ? "cpu," INFERD_GPU : "cpu";
}
