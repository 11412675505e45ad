#include "worker/offload.h"

unsigned offload_most(unsigned all, bool (*fits)(void *arg, unsigned layers), void *arg)
{
    unsigned good = 0, bad = all;
    if (all == 0 || fits(arg, all))
        return all;
    while (bad - good > 1) {
        unsigned middle = good + (bad - good) / 2;
        if (fits(arg, middle))
            good = middle;
        else
            bad = middle;
    }
    return good;
}

/* In floats and in this order, because llama.cpp does so: a layer at a border must come out on the same side. */
void offload_deal(const float *weights, unsigned count, unsigned layers, unsigned *ret_layers)
{
    float borders[LIMIT_DEVICES], sum = 0;
    for (unsigned d = 0; d < count; d++) {
        sum += weights[d];
        borders[d] = sum;
        ret_layers[d] = 0;
    }
    for (unsigned layer = 0; layer < layers; layer++) {
        unsigned d = 0;
        while (d + 1 < count && (float)layer / (float)layers >= borders[d] / sum)
            d++;
        ret_layers[d]++;
    }
}
