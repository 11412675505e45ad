#include "http/network.h"

#include <arpa/inet.h>

static bool read_address(struct str text, unsigned char out[16])
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    char copy[INET6_ADDRSTRLEN];
    if (text.n == 0 || text.n >= sizeof copy)
        return false;
    memcpy(copy, text.p, text.n);
    copy[text.n] = 0;
    if (inet_pton(AF_INET6, copy, out) == 1)
        return true;
    memcpy(out, mapped, sizeof mapped);
    return inet_pton(AF_INET, copy, out + 12) == 1;
}

bool http_network_parse(struct str text, struct http_network *ret)
{
    uint64_t bits = 0;
    struct str prefix = text, address = str_cut(&prefix, '/');
    if (!read_address(address, ret->bytes))
        return false;
    bool narrow = memchr(address.p, ':', address.n) == NULL;
    unsigned most = narrow ? 32 : 128;
    if (prefix.p && !str_u64(prefix, most, &bits))
        return false;
    ret->prefix = (prefix.p ? (unsigned)bits : most) + (narrow ? 96 : 0);
    return true;
}

bool http_network_has(const struct http_network *network, struct str address)
{
    unsigned char bytes[16];
    unsigned whole = network->prefix / 8, rest = network->prefix % 8;
    if (!read_address(address, bytes) || memcmp(bytes, network->bytes, whole) != 0)
        return false;
    return rest == 0 || (bytes[whole] ^ network->bytes[whole]) >> (8 - rest) == 0;
}

static bool is_trusted(const struct http_network *trusted, size_t count, struct str address)
{
    for (size_t i = 0; i < count; i++)
        if (http_network_has(&trusted[i], address))
            return true;
    return false;
}

/* Cuts the last entry off. */
static struct str last_entry(struct str *list)
{
    size_t at = list->n;
    while (at > 0 && list->p[at - 1] != ',')
        at--;
    struct str entry = str_trim((struct str){list->p + at, list->n - at});
    list->n = at > 0 ? at - 1 : 0;
    return entry;
}

struct str http_client_address(const struct http_head *head, struct str peer, const struct http_network *trusted,
                               size_t count)
{
    struct str sender = peer;
    unsigned char bytes[16];
    if (count == 0 || !is_trusted(trusted, count, peer))
        return peer;
    for (size_t i = head->header_count; i-- > 0;) {
        struct str list = head->headers[i].value;
        if (!str_ieq(head->headers[i].name, STR("x-forwarded-for")))
            continue;
        while (list.n > 0) {
            struct str entry = last_entry(&list);
            if (!read_address(entry, bytes))
                return sender;
            sender = entry;
            if (!is_trusted(trusted, count, sender))
                return sender;
        }
    }
    return sender;
}
