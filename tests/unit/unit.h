/* What every unit test needs before cmocka. */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"

#define assert_str(actual, literal)                                                                                    \
    do {                                                                                                               \
        struct str actual_ = (actual);                                                                                 \
        assert_int_equal(actual_.n, sizeof(literal) - 1);                                                              \
        assert_memory_equal(actual_.p, literal, sizeof(literal) - 1);                                                  \
    } while (0)

#endif
