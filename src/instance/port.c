#include "instance/port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>

#include "instance/instance_private.h"

/* 0, or the errno of trying to listen there. */
static int try_port(const char *address, int port)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&storage;
    socklen_t size = sizeof *v4;
    int family = AF_INET, on = 1, problem = 0;
    if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
    } else if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
        family = AF_INET6;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)port);
        size = sizeof *v6;
    } else {
        return EADDRNOTAVAIL;
    }
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&storage, size) != 0)
        problem = errno;
    close(fd);
    return problem;
}

static bool held_by_another(const struct instance *i, int port)
{
    list_each (other, &i->all->list, struct instance, link)
        if (other != i && other->kind == KIND_NAMED &&
            ((instance_has_slot(other) && other->port == port) || options_port(other->options.document) == port))
            return true;
    return port == i->all->conf->port;
}

static bool find_free(struct instance *i, const char *address, int *ret_port, struct err *err)
{
    const struct conf_range range = i->all->conf->port_range;
    int span = (int)(range.high - range.low + 1);
    for (int n = 0; n < span; n++) {
        int port = (int)range.low + (i->all->next_port + n) % span;
        if (held_by_another(i, port) || try_port(address, port) != 0)
            continue;
        i->all->next_port = (port + 1 - (int)range.low) % span;
        *ret_port = port;
        return true;
    }
    return err_set(err, ERR_START_FAILED, "no port between %lld and %lld is free; widen instances.port_range",
                   (long long)range.low, (long long)range.high);
}

/* Where we dial when the backend listens on `host`. */
static const char *dial(const char *host)
{
    if (!*host || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "localhost") == 0)
        return "127.0.0.1";
    return strcmp(host, "::") == 0 ? "::1" : host;
}

bool port_take(struct instance *i, struct backend_input *in, struct err *err)
{
    const char *host = json_string_value(json_object_get(in->options, "host"));
    const char *listen = host && *host ? host : "127.0.0.1";
    const char *bind_to = strcmp(listen, "localhost") == 0 ? "127.0.0.1" : listen;
    int port = options_port(i->options.document);
    if (port == 0) {
        if (!find_free(i, bind_to, &port, err))
            return false;
    } else {
        int problem = try_port(bind_to, port);
        if (problem != 0)
            return err_set(err, ERR_START_FAILED, "'%s' cannot listen on %s port %d: %s", i->name, bind_to, port,
                           problem == EADDRINUSE ? "another program has it" : strerror(problem));
    }
    in->host = host && *host ? NULL : listen;
    in->port = port;
    i->port = port;
    i->target.port = port;
    snprintf(i->target.address, sizeof i->target.address, "%s", dial(listen));
    return true;
}
