#include "http/client.h"

static bool set_address(struct http_target *target, struct str address)
{
    if (address.n == 0 || address.n >= sizeof target->address)
        return false;
    snprintf(target->address, sizeof target->address, STR_FMT, STR_ARG(address));
    return true;
}

bool http_target_parse(const char *url, struct http_target *ret_target, struct err *err)
{
    struct http_target target = {.port = 80};
    struct str rest = str_from(url);
    uint64_t port = 80;
    if (str_starts(rest, STR("unix:"))) {
        target.port = 0;
        if (!set_address(&target, (struct str){rest.p + 5, rest.n - 5}))
            return err_set(err, ERR_USAGE, "'%s' names no usable socket", url);
        *ret_target = target;
        return true;
    }
    if (!str_starts(rest, STR("http://")))
        return err_set(err, ERR_USAGE, "'%s' is no usable address: http://HOST:PORT or unix:PATH", url);
    rest = (struct str){rest.p + 7, rest.n - 7};
    struct str authority = str_cut(&rest, '/');
    const char *colon = memrchr(authority.p, ':', authority.n), *bracket = memrchr(authority.p, ']', authority.n);
    bool has_port = colon && colon > bracket;
    struct str host = {authority.p, has_port ? (size_t)(colon - authority.p) : authority.n};
    if (has_port &&
        (!str_u64((struct str){colon + 1, (size_t)(authority.p + authority.n - colon - 1)}, 65535, &port) || !port))
        return err_set(err, ERR_USAGE, "'%s' has no valid port", url);
    if (str_ieq(host, STR("localhost")))
        host = STR("127.0.0.1");
    if (host.n > 2 && host.p[0] == '[')
        host = (struct str){host.p + 1, host.n - 2};
    target.port = (int)port;
    if (!set_address(&target, host))
        return err_set(err, ERR_USAGE, "'%s' names no usable host", url);
    *ret_target = target;
    return true;
}
