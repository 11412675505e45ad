/* One easy handle a request. libcurl follows redirects; it sends our Authorization header only while scheme, host and
 * port stay those of the first URL, and it never goes from https to http here. There is no deadline for a whole body:
 * a transfer lives as long as it moves.
 *
 * A body is passed on only when the last reply is a 200 or a 206; the text of errors is not read. */
#include "registry/fetch_net.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/version.h"

/* ---- stopping ---- */

void fetch_stop_init(struct fetch_stop *stop)
{
    atomic_init(&stop->wanted, false);
    uv_mutex_init(&stop->lock);
    uv_cond_init(&stop->changed);
}

void fetch_stop_release(struct fetch_stop *stop)
{
    uv_cond_destroy(&stop->changed);
    uv_mutex_destroy(&stop->lock);
}

void fetch_stop_set(struct fetch_stop *stop)
{
    uv_mutex_lock(&stop->lock);
    atomic_store(&stop->wanted, true);
    uv_cond_broadcast(&stop->changed);
    uv_mutex_unlock(&stop->lock);
}

bool fetch_stopped(const struct fetch_stop *stop)
{
    return atomic_load(&stop->wanted);
}

bool fetch_stop_wait(struct fetch_stop *stop, uint64_t ms)
{
    uint64_t end = uv_hrtime() + ms * 1000000;
    uv_mutex_lock(&stop->lock);
    for (uint64_t now = uv_hrtime(); !fetch_stopped(stop) && now < end; now = uv_hrtime())
        uv_cond_timedwait(&stop->changed, &stop->lock, end - now);
    uv_mutex_unlock(&stop->lock);
    return !fetch_stopped(stop);
}

bool fetch_net_pause(const struct fetch_net *net, unsigned failed, const struct fetch_net_reply *reply)
{
    uint64_t pause = LIMIT_FETCH_BACKOFF_MS;
    while (--failed && pause < LIMIT_FETCH_BACKOFF_MAX_MS)
        pause *= 2;
    if (pause > LIMIT_FETCH_BACKOFF_MAX_MS)
        pause = LIMIT_FETCH_BACKOFF_MAX_MS;
    return fetch_stop_wait(net->stop, reply->retry_after_ms > pause ? reply->retry_after_ms : pause);
}

/* ---- one request ---- */

struct exchange {
    const struct fetch_net *net;
    const struct fetch_net_get *get;
    struct fetch_net_reply *reply;
    CURL *curl;
    enum fetch_net_result verdict; /* of on_body */
    struct err *err;
};

static bool is_body_status(long status)
{
    return status == 200 || status == 206;
}

static void note_range(struct fetch_net_reply *reply, struct str value)
{
    uint64_t last;
    if (!str_starts(value, STR("bytes ")))
        return;
    value = str_trim((struct str){value.p + 6, value.n - 6});
    struct str first = str_cut(&value, '-'), end = str_cut(&value, '/');
    reply->range_total = UINT64_MAX;
    reply->has_range = str_u64(first, UINT64_MAX, &reply->range_first) && str_u64(end, UINT64_MAX, &last) &&
                       (str_eq(value, STR("*")) || str_u64(value, UINT64_MAX - 1, &reply->range_total));
}

/* Link: <https://host/path?cursor=x>; rel="next", <...>; rel="last" */
static void note_link(struct fetch_net_reply *reply, struct str value)
{
    while (value.n) {
        struct str entry = str_cut(&value, ',');
        struct str target = str_trim(str_cut(&entry, ';'));
        bool next = entry.n && memmem(entry.p, entry.n, "rel=\"next\"", 10);
        if (!next || target.n < 3 || target.p[0] != '<' || target.p[target.n - 1] != '>')
            continue;
        if (target.n - 2 < sizeof reply->next)
            snprintf(reply->next, sizeof reply->next, STR_FMT, (int)target.n - 2, target.p + 1);
    }
}

static size_t on_header(char *bytes, size_t size, size_t n, void *arg)
{
    struct exchange *x = arg;
    struct str line = {bytes, size * n};
    while (line.n && (line.p[line.n - 1] == '\r' || line.p[line.n - 1] == '\n'))
        line.n--;
    if (str_starts(line, STR("HTTP/"))) { /* each reply of a chain of redirects begins anew */
        *x->reply = (struct fetch_net_reply){0};
        return size * n;
    }
    struct str name = str_cut(&line, ':');
    if (!line.p)
        return size * n;
    if (str_ieq(name, STR("content-range")))
        note_range(x->reply, str_trim(line));
    else if (str_ieq(name, STR("link")))
        note_link(x->reply, str_trim(line));
    return size * n;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
    struct exchange *x = arg;
    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &x->reply->status);
    if (!is_body_status(x->reply->status))
        return 0; /* ends the request: the status says it all */
    x->verdict = x->get->on_body(x->get->arg, x->reply, (struct str){bytes, size * n}, x->err);
    return x->verdict == FETCH_NET_DONE ? size * n : 0;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct exchange *x = arg;
    (void)a, (void)b, (void)c, (void)d;
    return fetch_stopped(x->net->stop);
}

/* Instances are forked at any time and must not inherit a download's connection. */
static curl_socket_t on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)arg, (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static struct curl_slist *request_headers(const struct exchange *x)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Accept: */*");
    struct buf line;
    buf_init(&line, LIMIT_HEAD_BYTES);
    if (x->net->token) {
        buf_printf(&line, "Authorization: Bearer %s", x->net->token);
        headers = curl_slist_append(headers, line.data);
    }
    buf_release(&line);
    return headers;
}

static void set_options(struct exchange *x, struct curl_slist *headers, char *problem)
{
    CURL *curl = x->curl;
    const char *url = x->get->url;
    bool secure = !str_starts(str_from(url), STR("http:"));
    char range[32];
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_DEFAULT_PROTOCOL, "https");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "inferd/" INFERD_VERSION);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)LIMIT_FETCH_REDIRECTS);
    curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L); /* a stop does not wait for a name server either */
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)LIMIT_FETCH_CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)x->net->stall_seconds);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, on_socket);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, problem);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, x);
    if (x->get->from) {
        snprintf(range, sizeof range, "%" PRIu64 "-", x->get->from);
        curl_easy_setopt(curl, CURLOPT_RANGE, range);
    }
}

/* ---- what came of it ---- */

/* "host:port" of a URL: the rest may hold a password. */
static struct str host_of(const char *url)
{
    const char *host = strstr(url, "://");
    struct str rest = str_from(host ? host + 3 : url);
    rest.n = strcspn(rest.p, "/?#");
    const char *user = memrchr(rest.p, '@', rest.n);
    return user ? (struct str){user + 1, (size_t)(rest.p + rest.n - user - 1)} : rest;
}

static enum fetch_net_result judge_status(const struct exchange *x)
{
    static const struct {
        long status;
        enum err_code code;
        bool again;
        const char *meaning;
    } known[] = {
        {401, ERR_AUTHENTICATION_FAILED, false, "it wants a valid token"},
        {403, ERR_PERMISSION_DENIED, false, "access is refused"},
        {404, ERR_NOT_FOUND, false, "it is not there"},
        {408, ERR_TIMEOUT, true, "the request took too long"},
        {416, ERR_RANGE_NOT_SATISFIABLE, false, "the range asked for is not in the file"},
        {429, ERR_RATE_LIMIT_EXCEEDED, true, "too many requests; wait, or set a token for a higher limit"},
    };
    long status = x->reply->status;
    struct str host = host_of(x->get->url);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].status == status) {
            err_set(x->err, known[i].code, "%s: " STR_FMT " answered %ld: %s", x->get->name, STR_ARG(host), status,
                    known[i].meaning);
            return known[i].again ? FETCH_NET_RETRY : FETCH_NET_FAILED;
        }
    err_set(x->err, ERR_BAD_GATEWAY, "%s: " STR_FMT " answered %ld", x->get->name, STR_ARG(host), status);
    return status >= 500 ? FETCH_NET_RETRY : FETCH_NET_FAILED;
}

static enum fetch_net_result judge_transfer(const struct exchange *x, CURLcode rc, const char *problem)
{
    struct str host = host_of(x->get->url);
    const char *why = *problem ? problem : curl_easy_strerror(rc);
    switch (rc) {
    case CURLE_OK: return FETCH_NET_DONE;
    case CURLE_OPERATION_TIMEDOUT:
        err_set(x->err, ERR_TIMEOUT, "%s: " STR_FMT " sent nothing for too long (%s)", x->get->name, STR_ARG(host),
                why);
        return FETCH_NET_RETRY;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        err_set(x->err, ERR_CONFIG, "%s: the hub's address leads to no http or https URL (%s)", x->get->name, why);
        return FETCH_NET_FAILED;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_TOO_MANY_REDIRECTS:
        err_set(x->err, ERR_BAD_GATEWAY, "%s: " STR_FMT ": %s", x->get->name, STR_ARG(host), why);
        return FETCH_NET_FAILED;
    default:
        err_set(x->err, ERR_BAD_GATEWAY, "%s: the connection to " STR_FMT " failed: %s", x->get->name, STR_ARG(host),
                why);
        return FETCH_NET_RETRY;
    }
}

static enum fetch_net_result judge(const struct exchange *x, CURLcode rc, const char *problem)
{
    if (fetch_stopped(x->net->stop)) {
        err_set(x->err, ERR_CLIENT_CLOSED, "cancelled");
        return FETCH_NET_STOPPED;
    }
    if (x->verdict != FETCH_NET_DONE)
        return x->verdict;
    if (x->reply->status && !is_body_status(x->reply->status) && (rc == CURLE_OK || rc == CURLE_WRITE_ERROR))
        return judge_status(x);
    return judge_transfer(x, rc, problem);
}

enum fetch_net_result fetch_net_get(const struct fetch_net *net, const struct fetch_net_get *get,
                                    struct fetch_net_reply *reply, struct err *err)
{
    char problem[CURL_ERROR_SIZE] = "";
    curl_off_t retry_after = 0;
    struct exchange x = {.net = net, .get = get, .reply = reply, .err = err};
    *reply = (struct fetch_net_reply){0};
    x.curl = curl_easy_init();
    if (!x.curl) {
        err_set(err, ERR_INTERNAL, "%s: libcurl cannot begin a request", get->name);
        return FETCH_NET_FAILED;
    }
    struct curl_slist *headers = request_headers(&x);
    set_options(&x, headers, problem);
    CURLcode rc = curl_easy_perform(x.curl);
    curl_easy_getinfo(x.curl, CURLINFO_RESPONSE_CODE, &reply->status);
    curl_easy_getinfo(x.curl, CURLINFO_RETRY_AFTER, &retry_after);
    if (retry_after > 0)
        reply->retry_after_ms =
            retry_after < LIMIT_FETCH_RETRY_AFTER_MS / 1000 ? (unsigned)retry_after * 1000 : LIMIT_FETCH_RETRY_AFTER_MS;
    curl_easy_cleanup(x.curl);
    curl_slist_free_all(headers);
    return judge(&x, rc, problem);
}

static void setup(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

void fetch_net_setup(void)
{
    static uv_once_t once = UV_ONCE_INIT;
    uv_once(&once, setup);
}
