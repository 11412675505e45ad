/* How many layers go to which GPU. */
#include "unit/unit.h"

#include "worker/offload.h"

struct need {
    uint64_t layer, fixed, room;
    unsigned asked, last;
};

static bool fits(void *arg, unsigned layers)
{
    struct need *n = arg;
    n->asked++;
    n->last = layers;
    return n->fixed + layers * n->layer <= n->room;
}

static void the_most_that_fit_are_found(void **state)
{
    (void)state;
    for (unsigned all = 0; all < 70; all++)
        for (unsigned room = 0; room < 80; room++) {
            struct need n = {.layer = 10, .fixed = 5, .room = room * 10};
            unsigned most = room == 0 ? 0 : room - 1 < all ? room - 1 : all; /* the fixed part takes half a layer */
            assert_int_equal(offload_most(all, fits, &n), most);
            assert_true(n.asked <= 8);
        }
}

static void what_fits_whole_is_asked_about_once(void **state)
{
    (void)state;
    struct need n = {.layer = 1, .room = 100};
    assert_int_equal(offload_most(33, fits, &n), 33);
    assert_int_equal(n.asked, 1);
    assert_int_equal(n.last, 33);
}

static void layers_are_dealt_by_weight(void **state)
{
    (void)state;
    static const struct {
        float weights[3];
        unsigned count, layers, dealt[3];
    } cases[] = {
        {{5}, 1, 33, {33}},
        {{1, 1}, 2, 33, {17, 16}},
        {{3, 1}, 2, 32, {24, 8}},
        {{24, 8, 0}, 3, 32, {24, 8, 0}},
        {{10, 20, 3}, 3, 33, {10, 20, 3}},
        {{1e9f, 1e9f}, 2, 1, {1, 0}},
        {{1, 1}, 2, 0, {0, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned dealt[3];
        offload_deal(cases[i].weights, cases[i].count, cases[i].layers, dealt);
        for (unsigned d = 0; d < cases[i].count; d++)
            if (dealt[d] != cases[i].dealt[d])
                fail_msg("case %zu: device %u gets %u layers, not %u", i, d, dealt[d], cases[i].dealt[d]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_most_that_fit_are_found),
        cmocka_unit_test(what_fits_whole_is_asked_about_once),
        cmocka_unit_test(layers_are_dealt_by_weight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
