/* http_request.c - one request: where it may go, what it sends, what it takes, and redirects, each of which is judged like
 * a request of its own. */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"
#include "lua/grant.h"
#include "lua/http.h"

enum { CONNECT_MS = 10000, HEADER_BYTES_MAX = 64 << 10, BUFFER_BYTES = 8192 };

/* ---- addresses: a name must not lead to where only the machine itself should get ---- */

typedef enum reach { REACH_PUBLIC, REACH_PRIVATE, REACH_LINK } reach;

static const struct {
    uint32_t net, mask;
    reach    reach;
} networks[] = {
    { 0xa9fe0000, 0xffff0000, REACH_LINK },    /* 169.254/16, where clouds keep their metadata */
    { 0x00000000, 0xff000000, REACH_PRIVATE }, { 0x0a000000, 0xff000000, REACH_PRIVATE },
    { 0x64400000, 0xffc00000, REACH_PRIVATE }, { 0x7f000000, 0xff000000, REACH_PRIVATE },
    { 0xac100000, 0xfff00000, REACH_PRIVATE }, { 0xc0a80000, 0xffff0000, REACH_PRIVATE },
    { 0xe0000000, 0xe0000000, REACH_PRIVATE }, /* multicast and above */
};

static reach reach_of_4(uint32_t address)
{
    for (size_t i = 0; i < DEPOT_N(networks); i++) {
        if ((address & networks[i].mask) == networks[i].net) {
            return networks[i].reach;
        }
    }
    return REACH_PUBLIC;
}

/* Addresses that carry one of IPv4, behind so many bytes, to which a gateway may take them. */
static const struct {
    uint8_t prefix[12];
    size_t  length, at;
} carriers[] = {
    { { [10] = 0xff, [11] = 0xff }, 12, 12 },                /* ::ffff:0:0/96, mapped */
    { { 0 }, 12, 12 },                                       /* ::/96, compatible */
    { { 0x00, 0x64, 0xff, 0x9b }, 12, 12 },                  /* 64:ff9b::/96, NAT64 */
    { { 0x20, 0x02 }, 2, 2 },                                /* 2002::/16, 6to4 */
};

static reach reach_of_6(const uint8_t *a)
{
    for (size_t i = 0; i < DEPOT_N(carriers); i++) {
        const uint8_t *four = a + carriers[i].at;
        if (memcmp(a, carriers[i].prefix, carriers[i].length) == 0) {
            return reach_of_4((uint32_t)four[0] << 24 | (uint32_t)four[1] << 16 | (uint32_t)four[2] << 8 | four[3]);
        }
    }
    if (a[0] == 0xfe && (a[1] & 0xc0) == 0x80) {
        return REACH_LINK;
    }
    bool is_local = (a[0] & 0xfe) == 0xfc || (a[0] == 0xfe && (a[1] & 0xc0) == 0xc0) || a[0] == 0xff;
    return is_local ? REACH_PRIVATE : REACH_PUBLIC;
}

static reach reach_of(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        return reach_of_4(ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr));
    }
    return reach_of_6(((const struct sockaddr_in6 *)(const void *)address)->sin6_addr.s6_addr);
}

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
    http_op *h = arg;
    reach    where = reach_of(&to->addr);

    (void)purpose;
    http_opened(h);
    if (where == REACH_LINK ? !(h->is_trusted && h->is_literal) : where == REACH_PRIVATE && !h->is_trusted) {
        const void *bytes = to->family == AF_INET
            ? (const void *)&((const struct sockaddr_in *)(const void *)&to->addr)->sin_addr
            : (const void *)&((const struct sockaddr_in6 *)(const void *)&to->addr)->sin6_addr;
        h->refused = inet_ntop(to->family, bytes, h->refused_address, sizeof(h->refused_address)) != NULL;
        return CURL_SOCKET_BAD;
    }
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

/* ---- where it goes ---- */

typedef struct url_parts {
    CURLU *url;
    char  *scheme, *host, *port, *whole;
} url_parts;

static void parts_free(url_parts *p)
{
    curl_free(p->scheme);
    curl_free(p->host);
    curl_free(p->port);
    curl_free(p->whole);
    curl_url_cleanup(p->url);
}

static bool split(const char *url, url_parts *p, depot_err *err)
{
    p->url = curl_url();
    if (p->url == NULL || curl_url_set(p->url, CURLUPART_URL, url, 0) != CURLUE_OK ||
        curl_url_get(p->url, CURLUPART_SCHEME, &p->scheme, 0) != CURLUE_OK ||
        curl_url_get(p->url, CURLUPART_HOST, &p->host, 0) != CURLUE_OK ||
        curl_url_get(p->url, CURLUPART_PORT, &p->port, CURLU_DEFAULT_PORT) != CURLUE_OK ||
        curl_url_get(p->url, CURLUPART_URL, &p->whole, 0) != CURLUE_OK) {
        return DEPOT_FAIL(err, INVALID, "this is no URL that a request can go to: %.200s", url);
    }
    if (strcmp(p->scheme, "http") != 0 && strcmp(p->scheme, "https") != 0) {
        return DEPOT_FAIL(err, INVALID, "requests go to http:// and https:// only, not to %s://", p->scheme);
    }
    return true;
}

static bool is_address(const char *name)
{
    struct in_addr four;

    return name[0] == '[' || inet_pton(AF_INET, name, &four) == 1;
}

bool http_target(http_op *h, const char *url, depot_err *err)
{
    DEPOT_AUTO(parts_free) url_parts p = { 0 };

    if (!split(url, &p, err)) {
        return false;
    }
    const char *want = depot_strf(h->arena, "http:%s:%s", p.host, p.port);
    const run  *r = h->base.run;
    if (!run_may(r, want, err)) {
        return false;
    }
    h->is_trusted = grants_name(r->engine->opt.grants, r->name, want);
    h->is_literal = is_address(p.host);
    h->place = depot_strf(h->arena, "%s://%s:%s", p.scheme, p.host, p.port);
    h->url = depot_strdup(h->arena, p.whole);
    return true;
}

/* ---- what comes back ---- */

static size_t take_body(char *bytes, size_t size, size_t n, void *arg)
{
    http_op *h = arg;

    h->too_large = size * n > h->max_body - h->reply.len;
    if (h->too_large) {
        return 0;
    }
    depot_buf_add(&h->reply, bytes, size * n);
    return size * n;
}

static void forget_reply(http_op *h)
{
    depot_buf_reset(&h->reply);
    h->first = NULL;
    h->last = &h->first;
}

/* A new status line begins another head: of the reply after a 100, say. They are bounded together, as a server may send any
 * number of them. */
static size_t take_header(char *bytes, size_t size, size_t n, void *arg)
{
    http_op    *h = arg;
    size_t      length = size * n;
    const char *colon = memchr(bytes, ':', length);

    h->header_bytes += length;
    h->too_large = h->header_bytes > HEADER_BYTES_MAX;
    if (h->too_large) {
        return 0;
    }
    if (length > 5 && strncmp(bytes, "HTTP/", 5) == 0) {
        forget_reply(h);
        return length;
    }
    if (colon == NULL) {
        return length;
    }
    const char *value = colon + 1, *end = bytes + length;
    while (value < end && isspace((unsigned char)*value)) {
        value++;
    }
    while (end > value && isspace((unsigned char)end[-1])) {
        end--;
    }
    http_header *header = depot_alloc(h->arena, sizeof(*header));
    char        *name = depot_strndup(h->arena, bytes, (size_t)(colon - bytes));
    for (char *c = name; *c != '\0'; c++) {
        *c = (char)tolower((unsigned char)*c);
    }
    header->name = name;
    header->value = depot_strndup(h->arena, value, (size_t)(end - value));
    *h->last = header;
    h->last = &header->next;
    return length;
}

/* ---- the transfer ---- */

static void set_method(http_op *h)
{
    curl_easy_setopt(h->easy, CURLOPT_HTTPGET, 1L);
    if (h->body != NULL) {
        curl_easy_setopt(h->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(h->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)h->body_len);
        curl_easy_setopt(h->easy, CURLOPT_POSTFIELDS, h->body);
    }
    if (strcmp(h->method, "HEAD") == 0) {
        curl_easy_setopt(h->easy, CURLOPT_NOBODY, 1L);
    }
    curl_easy_setopt(h->easy, CURLOPT_CUSTOMREQUEST, h->method);
}

/* When it begins: it may have waited for its place. */
void http_bound(http_op *h)
{
    int64_t left = h->due_ms - depot_now_ms();
    long    ms = left > 0 ? (long)left : 1;

    curl_easy_setopt(h->easy, CURLOPT_TIMEOUT_MS, ms);
    curl_easy_setopt(h->easy, CURLOPT_CONNECTTIMEOUT_MS, ms < CONNECT_MS ? ms : (long)CONNECT_MS);
}

/* Also of one that was open already. */
static int take_connection(void *arg, char *ip, char *local_ip, int port, int local_port)
{
    (void)ip;
    (void)local_ip;
    (void)port;
    (void)local_port;
    http_opened(arg);
    return CURL_PREREQFUNC_OK;
}

void http_prepare(http_op *h)
{
    forget_reply(h);
    h->header_bytes = 0;
    h->refused = h->too_large = false; /* of the hop before */
    set_method(h);
    curl_easy_setopt(h->easy, CURLOPT_URL, h->url);
    curl_easy_setopt(h->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h->easy, CURLOPT_PROXY, ""); /* the host that was granted is the host that is asked */
    curl_easy_setopt(h->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h->easy, CURLOPT_QUICK_EXIT, 1L); /* its end does not wait for the thread that still looks up a name */
    curl_easy_setopt(h->easy, CURLOPT_BUFFERSIZE, (long)BUFFER_BYTES);
    curl_easy_setopt(h->easy, CURLOPT_USERAGENT, "depotd/" DEPOT_VERSION);
    curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, h->headers);
    curl_easy_setopt(h->easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(h->easy, CURLOPT_WRITEDATA, h);
    curl_easy_setopt(h->easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(h->easy, CURLOPT_HEADERDATA, h);
    curl_easy_setopt(h->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(h->easy, CURLOPT_OPENSOCKETDATA, h);
    curl_easy_setopt(h->easy, CURLOPT_PREREQFUNCTION, take_connection);
    curl_easy_setopt(h->easy, CURLOPT_PREREQDATA, h);
    curl_easy_setopt(h->easy, CURLOPT_ERRORBUFFER, h->text);
    curl_easy_setopt(h->easy, CURLOPT_PRIVATE, h);
    /* a connection that was opened for a host that is named in a grant is not for those that are allowed by a wider one */
    curl_easy_setopt(h->easy, CURLOPT_FRESH_CONNECT, h->is_trusted ? 0L : 1L);
}

/* ---- redirects ---- */

/* A name, or with a hyphen at its end the beginning of one. */
static bool is_named(const char *line, const char *name)
{
    size_t n = strlen(name);

    return strncasecmp(line, name, n) == 0 && (name[n - 1] == '-' || line[n] == ':' || line[n] == ';');
}

/* What was meant for one host is not told to another. Which headers hold a secret nobody can say (X-Api-Key, PRIVATE-TOKEN …), so it
 * is told only what is known to hold none. What describes a body goes when the body does. */
static bool is_kept(const char *line, bool other_place, bool drops_body)
{
    static const char *const harmless[] = { "Accept", "Accept-", "Content-", "If-", "Range", "User-Agent" };
    bool                     kept = !other_place;

    for (size_t i = 0; i < DEPOT_N(harmless); i++) {
        kept = kept || is_named(line, harmless[i]);
    }
    return kept && !(drops_body && is_named(line, "Content-"));
}

static void keep_headers(http_op *h, bool other_place, bool drops_body)
{
    struct curl_slist *kept = NULL;

    for (const struct curl_slist *at = h->headers; at != NULL; at = at->next) {
        if (is_kept(at->data, other_place, drops_body)) {
            kept = curl_slist_append(kept, at->data);
        }
    }
    curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, kept);
    curl_slist_free_all(h->headers);
    h->headers = kept;
}

static bool redirect(http_op *h, const char *to, depot_err *err)
{
    const char *from = h->place;
    bool        drops_body = h->status == 303 || ((h->status == 301 || h->status == 302) && strcmp(h->method, "POST") == 0);

    if (h->redirects-- == 0) {
        return DEPOT_FAIL(err, LIMIT, "%s redirects more often than the request allows", from);
    }
    if (!http_target(h, to, err)) {
        return depot_wrap(err, "redirect of %s", from);
    }
    if (strncmp(from, "https:", 6) == 0 && strncmp(h->place, "https:", 6) != 0) {
        return DEPOT_FAIL(err, FORBIDDEN, "%s redirects to %s, which is not encrypted", from, h->place);
    }
    if (drops_body && strcmp(h->method, "HEAD") != 0) {
        h->method = "GET";
        h->body = NULL;
    }
    keep_headers(h, strcmp(from, h->place) != 0, drops_body);
    http_prepare(h);
    return http_add(h, err);
}

/* ---- the end ---- */

static void explain(http_op *h, CURLcode how)
{
    if (h->refused) {
        (void)DEPOT_FAIL(&h->err, CAPABILITY, "%s leads to %s, an address of this machine or its network", h->place,
                         h->refused_address);
        (void)depot_hint(&h->err, "only a grant that names the host itself allows that: grant = http:%s",
                         strstr(h->place, "://") + 3);
    } else if (h->too_large) {
        (void)DEPOT_FAIL(&h->err, TOO_LARGE, "the reply of %s is larger than %zu bytes, or its head than %d", h->place,
                         h->max_body, HEADER_BYTES_MAX);
        (void)depot_hint(&h->err, "a larger max_body may be given with the request");
    } else if (how == CURLE_OPERATION_TIMEDOUT) {
        (void)DEPOT_FAIL(&h->err, TIMEOUT, "no whole reply of %s in time: %s", h->place, h->text);
    } else {
        (void)DEPOT_FAIL(&h->err, DEPENDENCY, "%s: %s", h->place,
                         h->text[0] != '\0' ? h->text : curl_easy_strerror(how));
    }
}

void http_ended(http_op *h, CURLcode how)
{
    char *to = NULL;

    curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &h->status);
    curl_easy_getinfo(h->easy, CURLINFO_REDIRECT_URL, &to);
    if (how != CURLE_OK) {
        explain(h, how);
    } else if (h->follows && to != NULL && redirect(h, to, &h->err)) {
        return;
    }
    op_done(&h->base);
}
