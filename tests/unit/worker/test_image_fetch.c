/* Where images may be fetched from: the table of addresses. The fetching itself is in sys/test_vision.py. */
#include "worker/image_fetch.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "unit/unit.h"

static bool is_public(const char *text)
{
    struct sockaddr_in four = {.sin_family = AF_INET};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &four.sin_addr) == 1)
        return image_address_is_public((struct sockaddr *)&four);
    assert_int_equal(inet_pton(AF_INET6, text, &six.sin6_addr), 1);
    return image_address_is_public((struct sockaddr *)&six);
}

static void test_public(void **state)
{
    static const char *const rows[] = {"1.1.1.1",      "8.8.8.8",       "9.255.255.255", "11.0.0.0",
                                       "100.63.0.1",   "100.128.0.1",   "126.0.0.1",     "128.0.0.1",
                                       "172.15.0.1",   "172.32.0.1",    "192.167.0.1",   "223.255.255.255",
                                       "2606:4700::1", "2a00:1450::8a", "::ffff:8.8.8.8"};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!is_public(rows[i]))
            fail_msg("%s is public", rows[i]);
}

static void test_others(void **state)
{
    static const char *const rows[] = {"0.0.0.0",
                                       "10.1.2.3",
                                       "100.64.0.1",
                                       "127.0.0.1",
                                       "127.255.255.255",
                                       "169.254.169.254",
                                       "172.16.0.1",
                                       "172.31.255.1",
                                       "192.0.0.192",
                                       "192.0.2.1",
                                       "192.168.0.1",
                                       "198.18.0.1",
                                       "198.19.255.1",
                                       "198.51.100.1",
                                       "203.0.113.1",
                                       "224.0.0.1",
                                       "239.1.1.1",
                                       "240.0.0.1",
                                       "255.255.255.255",
                                       "::",
                                       "::1",
                                       "fe80::1",
                                       "fec0::1",
                                       "fc00::1",
                                       "fd00:ec2::254",
                                       "ff02::1",
                                       "2001:db8::1",
                                       "2001::1",
                                       "2002:7f00:1::",
                                       "64:ff9b::7f00:1",
                                       "::ffff:127.0.0.1",
                                       "::ffff:10.0.0.1",
                                       "::ffff:169.254.169.254",
                                       "::127.0.0.1",
                                       "100::1",
                                       "3fff::1"};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (is_public(rows[i]))
            fail_msg("%s is not public", rows[i]);
    struct sockaddr local = {.sa_family = AF_UNIX};
    assert_false(image_address_is_public(&local));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_public), cmocka_unit_test(test_others)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
