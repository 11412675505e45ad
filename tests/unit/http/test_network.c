/* Networks, and who is believed to have sent a request. */
#include "http/network.h"

#include "unit/unit.h"

static struct str sender(const char *peer, const char *forwarded, const char *trusted)
{
    struct http_network networks[4];
    static struct http_header header;
    static struct http_head head = {.headers = &header};
    size_t count = 0;
    struct str list = str_from(trusted);
    while (list.n)
        assert_true(http_network_parse(str_cut(&list, ' '), &networks[count++]));
    head.header_count = forwarded ? 1 : 0;
    header.name = STR("X-Forwarded-For");
    header.value = str_from(forwarded ? forwarded : "");
    return http_client_address(&head, str_from(peer), networks, count);
}

static void test_parse(void **state)
{
    static const char *const bad[] = {"",     "1.2.3",     "1.2.3.4/33", "1.2.3.4/",     "1.2.3.4/a", "::/129",
                                      "host", "1.2.3.4.5", "1.2.3.4/-1", "fe80::1%eth0", "1.2.3.4 ",  "::ffff:1.2.3"};
    struct http_network n;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(http_network_parse(str_from(bad[i]), &n));
    assert_true(http_network_parse(STR("10.16.0.0/12"), &n));
    assert_true(http_network_has(&n, STR("10.31.255.255")));
    assert_true(http_network_has(&n, STR("::ffff:10.16.0.1")));
    assert_false(http_network_has(&n, STR("10.32.0.0")));
    assert_false(http_network_has(&n, STR("")));
    assert_true(http_network_parse(STR("2001:db8::/33"), &n));
    assert_true(http_network_has(&n, STR("2001:db8:7fff::1")));
    assert_false(http_network_has(&n, STR("2001:db8:8000::1")));
    assert_true(http_network_parse(STR("0.0.0.0/0"), &n));
    assert_true(http_network_has(&n, STR("203.0.113.9")));
    assert_false(http_network_has(&n, STR("2001:db8::1")));
}

static void test_sender(void **state)
{
    (void)state;
    assert_str(sender("1.1.1.1", "9.9.9.9", ""), "1.1.1.1");
    assert_str(sender("1.1.1.1", "9.9.9.9", "10.0.0.0/8"), "1.1.1.1");
    assert_str(sender("10.0.0.1", "9.9.9.9", "10.0.0.0/8"), "9.9.9.9");
    assert_str(sender("10.0.0.1", "6.6.6.6, 9.9.9.9 , 10.0.0.2", "10.0.0.0/8"), "9.9.9.9");
    assert_str(sender("10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.0/8"), "10.0.0.3");
    assert_str(sender("10.0.0.1", "9.9.9.9, unknown, 10.0.0.2", "10.0.0.0/8"), "10.0.0.2");
    assert_str(sender("10.0.0.1", NULL, "10.0.0.0/8"), "10.0.0.1");
    assert_str(sender("", "9.9.9.9", "10.0.0.0/8"), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_parse), cmocka_unit_test(test_sender)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
