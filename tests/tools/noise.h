/* Weights of models for tests: numbers from nowhere that are the same for a seed everywhere. */
#ifndef TESTS_TOOLS_NOISE_H
#define TESTS_TOOLS_NOISE_H

#include <stdint.h>

static uint64_t state; /* set it to the seed */

static float normal(void)
{
    float sum = 0; /* of twelve uniform ones: near enough */
    for (int i = 0; i < 12; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        sum += (float)(state >> 40) / (float)(1 << 24);
    }
    return sum - 6;
}

#endif
