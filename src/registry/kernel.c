/* The table repeats what llama.cpp v0.5.0 asks the CPU for; it is built for the machine it runs on, so the CPU's
 * features are its own. */
#include "registry/kernel.h"

#include <string.h>
#if defined __x86_64__
#include <cpuid.h>
#elif defined __aarch64__
#include <sys/auxv.h>
#endif

enum feature { AVX2 = 1, AVX512 = 2, AMX_INT8 = 4, DOTPROD = 8, I8MM = 16 };

#if defined __x86_64__
static unsigned features(void)
{
    unsigned a, b, c, d, found = 0;
    if (__builtin_cpu_supports("avx2"))
        found |= AVX2;
    if (__builtin_cpu_supports("avx512f"))
        found |= AVX512;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 25 & 1))
        found |= AMX_INT8;
    return found;
}
#elif defined __aarch64__
static unsigned features(void)
{
    unsigned found = 0;
    if (getauxval(AT_HWCAP) >> 20 & 1) /* HWCAP_ASIMDDP */
        found |= DOTPROD;
    if (getauxval(AT_HWCAP2) >> 13 & 1) /* HWCAP2_I8MM */
        found |= I8MM;
    return found;
}
#else
static unsigned features(void)
{
    return 0;
}
#endif

static const struct kernel {
    const char *type;
    unsigned any_of;
} kernels[] = {
    {"Q4_0", AVX2 | AMX_INT8 | DOTPROD | I8MM},
    {"Q4_K", AVX2 | AMX_INT8 | DOTPROD | I8MM},
    {"IQ4_NL", AVX2 | DOTPROD},
    {"MXFP4", AVX2 | DOTPROD},
    {"Q2_K", AVX512},
    {"Q4_1", AMX_INT8},
    {"Q8_0", AMX_INT8 | DOTPROD | I8MM},
    {"Q5_K", AMX_INT8 | DOTPROD | I8MM},
    {"Q6_K", AMX_INT8 | DOTPROD | I8MM},
    {"IQ4_XS", AMX_INT8},
    {"Q1_0", DOTPROD | I8MM},
};

bool kernel_is_fast(const char *type)
{
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        if (strcmp(kernels[i].type, type) == 0)
            return (kernels[i].any_of & features()) != 0;
    return false;
}

/* What to quantise the original anew to: a type with blocks of the same length, because others may not divide the
 * model's rows. Left out are Q5_0 and Q8_0, which have a fast kernel of another kind (llamafile/sgemm.cpp). Factors:
 * SmolLM2-135M on an EPYC with AVX-512, one stream. */
static const struct advice {
    const char *type, *better;
    double prompt_gain, decode_gain;
} advices[] = {
    {"Q4_1", "Q4_0", 3.2, 1.3}, {"Q5_1", "Q4_0", 0, 0},  {"Q5_K", "Q4_K", 0, 0},
    {"Q6_K", "Q4_K", 0, 0},     {"Q3_K", "Q4_K", 0, 0},  {"Q2_K", "Q4_K", 0, 0},
    {"IQ4_XS", "IQ4_NL", 0, 0}, {"IQ3_S", "Q4_K", 0, 0}, {"IQ3_XXS", "Q4_K", 0, 0},
};

static unsigned most_common(const struct gguf_shape *shape)
{
    unsigned most = 0;
    for (unsigned i = 1; i < GGUF_TYPES; i++)
        if (shape->matrix_bytes[i] > shape->matrix_bytes[most])
            most = i;
    return most;
}

static const struct advice *find_advice(const char *type)
{
    for (size_t i = 0; i < sizeof advices / sizeof *advices; i++)
        if (strcmp(advices[i].type, type) == 0 && !kernel_is_fast(type) && kernel_is_fast(advices[i].better))
            return &advices[i];
    return NULL;
}

void kernel_advise(const struct gguf *gguf, struct kernel_advice *ret_advice)
{
    unsigned most = most_common(&gguf->shape);
    *ret_advice = (struct kernel_advice){.type = gguf->shape.matrix_bytes[most] ? gguf_tensor_type(most) : ""};
    const struct advice *a = find_advice(ret_advice->type);
    if (!a)
        return;
    ret_advice->slow = true;
    ret_advice->better = a->better;
    ret_advice->prompt_gain = a->prompt_gain;
    ret_advice->decode_gain = a->decode_gain;
}
