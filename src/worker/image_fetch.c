/* The address is checked where libcurl makes the socket for it, after names are resolved and for every redirect and
 * every try: a name that means another address the second time gains nothing. Proxies of the environment are not used,
 * since behind one nobody could check. The scheme never goes from https to http. */
#include "worker/image_fetch.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <pthread.h>

#include "base/version.h"
#include "http/network.h"

/* ---- addresses ---- */

/* What is not the public internet (the registries of special-purpose addresses; IPv4 stands for its mapped form, too).
 * Of IPv6 only 2000::/3 is public at all. */
static const char *const reserved[] = {
    "0.0.0.0/8",     "10.0.0.0/8",      "100.64.0.0/10",  "127.0.0.0/8",    "169.254.0.0/16",
    "172.16.0.0/12", "192.0.0.0/24",    "192.0.2.0/24",   "192.88.99.0/24", "192.168.0.0/16",
    "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4",    "240.0.0.0/4",
    "2001::/23",     "2001:db8::/32",   "2002::/16",      "3fff::/20",
};

static bool is_in(const char *network, struct str address)
{
    struct http_network parsed;
    return http_network_parse(str_from(network), &parsed) && http_network_has(&parsed, address);
}

bool image_address_is_public(const struct sockaddr *address)
{
    char text[INET6_ADDRSTRLEN];
    bool four = address->sa_family == AF_INET;
    if (!four && address->sa_family != AF_INET6)
        return false;
    const void *bytes = four ? (const void *)&((const struct sockaddr_in *)(const void *)address)->sin_addr
                             : (const void *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    if (!inet_ntop(address->sa_family, bytes, text, sizeof text))
        return false;
    struct str name = str_from(text);
    if (!four && !is_in("2000::/3", name) && !is_in("::ffff:0:0/96", name))
        return false;
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (is_in(reserved[i], name))
            return false;
    return true;
}

/* ---- one fetch ---- */

struct exchange {
    const struct image_fetch *fetch;
    struct buf *out;
    CURL *curl;
    bool refused; /* an address */
    bool stopped;
};

static curl_socket_t on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct exchange *x = arg;
    (void)purpose;
    if (!x->fetch->allow_private && !image_address_is_public(&address->addr)) {
        x->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
    struct exchange *x = arg;
    long status = 0;
    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200)
        return 0; /* ends it: the status says it all */
    buf_append(x->out, bytes, size * n);
    return buf_ok(x->out) ? size * n : 0;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct exchange *x = arg;
    (void)a, (void)b, (void)c, (void)d;
    x->stopped = x->fetch->stop && x->fetch->stop(x->fetch->arg);
    return x->stopped;
}

static void set_options(struct exchange *x, char *problem)
{
    CURL *curl = x->curl;
    bool secure = strncasecmp(x->fetch->url, "https:", 6) == 0;
    curl_easy_setopt(curl, CURLOPT_URL, x->fetch->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)LIMIT_IMAGE_HOPS);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)LIMIT_IMAGE_MS);
    curl_easy_setopt(curl, CURLOPT_MAXFILESIZE, (long)LIMIT_IMAGE_BYTES);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "inferd/" INFERD_VERSION);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, problem);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, x);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, x);
}

static bool judge(const struct exchange *x, CURLcode rc, const char *problem, struct err *err)
{
    long status = 0;
    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &status);
    if (rc == CURLE_OK && status == 200)
        return true;
    if (x->stopped)
        return err_set(err, ERR_CLIENT_CLOSED, "the request was cancelled");
    if (!buf_ok(x->out) || rc == CURLE_FILESIZE_EXCEEDED)
        return err_set(err, ERR_INVALID_PARAMETERS, "leads to more than %u MiB", LIMIT_IMAGE_BYTES >> 20);
    if (x->refused && rc != CURLE_OK)
        return err_set(err, ERR_INVALID_PARAMETERS,
                       "leads to a private, local or reserved address; images are fetched from public ones only "
                       "(security.private_image_urls allows others)");
    if (rc == CURLE_OPERATION_TIMEDOUT)
        return err_set(err, ERR_INVALID_PARAMETERS, "could not be fetched within %d seconds", LIMIT_IMAGE_MS / 1000);
    if (rc == CURLE_TOO_MANY_REDIRECTS)
        return err_set(err, ERR_INVALID_PARAMETERS, "leads through more than %d redirects", LIMIT_IMAGE_HOPS);
    if (status && (rc == CURLE_OK || rc == CURLE_WRITE_ERROR))
        return err_set(err, ERR_INVALID_PARAMETERS, "could not be fetched: the server answered %ld", status);
    return err_set(err, ERR_INVALID_PARAMETERS, "could not be fetched: %s",
                   *problem ? problem : curl_easy_strerror(rc));
}

static void setup(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

bool image_fetch(const struct image_fetch *fetch, struct buf *out, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    char problem[CURL_ERROR_SIZE] = "";
    pthread_once(&once, setup);
    struct exchange x = {.fetch = fetch, .out = out, .curl = curl_easy_init()};
    if (!x.curl)
        return err_set(err, ERR_INTERNAL, "could not be fetched: libcurl cannot begin a request");
    set_options(&x, problem);
    CURLcode rc = curl_easy_perform(x.curl);
    bool good = judge(&x, rc, problem, err);
    curl_easy_cleanup(x.curl);
    return good;
}
