/* call.c - libcurl carries the request; the reply's head decides where its body goes. */
#include "ctl/call.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctl/progress.h"
#include "ctl/sink.h"

enum { CONNECT_MS = 10000, IDLE_MS = 60000, TOKEN_MAX = 4096 };

/* A request under way. */
typedef struct transfer {
    CURL              *curl;
    struct curl_slist *headers;
    const ctl_options *options;
    const ctl_request *request;
    sink               sink;
    progress           bar;
    int                upload; /* descriptor that the body is read from; -1: none */
    int                socket_dir;
    int64_t            upload_size;     /* -1: unknown */
    int64_t            moved, moved_ms; /* bytes so far, and when they last changed */
    bool               idle, failed;    /* given up; err holds why the output cannot be written */
    depot_err          err;
} transfer;

static void transfer_end(transfer *t)
{
    progress_end(&t->bar);
    curl_slist_free_all(t->headers);
    curl_easy_cleanup(t->curl);
    sink_close(&t->sink);
    depot_fd_close(&t->socket_dir);
    if (t->upload != STDIN_FILENO) {
        depot_fd_close(&t->upload);
    }
}

const char *call_place(depot_arena *arena, const ctl_options *options)
{
    if (options->url != NULL) {
        return options->url;
    }
    return options->socket != NULL ? options->socket : depot_strf(arena, "%s/depotd.sock", options->state_dir);
}

/* ---- callbacks of libcurl ---- */
static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    transfer *t = arg;

    if (t->sink.kind == SINK_UNDECIDED) {
        long  status = 0;
        char *type = NULL;

        (void)curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status); /* both leave their default */
        (void)curl_easy_getinfo(t->curl, CURLINFO_CONTENT_TYPE, &type);
        if (!sink_choose(&t->sink, (int)status, type, &t->err)) {
            t->failed = true;
            return 0;
        }
        if (t->sink.kind == SINK_STDOUT && isatty(STDOUT_FILENO) == 1) {
            t->bar.on = false; /* the text itself moves there */
        }
    }
    if (!sink_write(&t->sink, p, size * n, &t->err)) {
        t->failed = true;
        return 0;
    }
    return size * n;
}

static size_t on_upload(char *p, size_t size, size_t n, void *arg)
{
    transfer *t = arg;
    ssize_t   got;

    do {
        got = read(t->upload, p, size * n);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        t->failed = true;
        DEPOT_FAIL_ERRNO(&t->err, "cannot read %s", t->request->file);
        return CURL_READFUNC_ABORT;
    }
    return (size_t)got;
}

static int on_progress(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    transfer *t = arg;
    int64_t   now = depot_now_ms();

    (void)up_total; /* libcurl knows it only when we said it */
    if (up + down != t->moved) {
        t->moved = up + down;
        t->moved_ms = now;
    }
    if (t->upload >= 0 && down == 0) {
        progress_show(&t->bar, up, t->upload_size);
    } else if (t->sink.kind == SINK_FILE || t->sink.kind == SINK_STDOUT) {
        progress_show(&t->bar, down, down_total > 0 ? down_total : -1);
    }
    t->idle = t->options->timeout_ms == 0 && !t->request->is_long && now - t->moved_ms > IDLE_MS;
    return t->idle ? 1 : 0;
}

/* ---- preparing ---- */
static bool open_upload(transfer *t, depot_err *err)
{
    struct stat st;

    t->upload_size = -1;
    if (t->request->file == NULL) {
        return true;
    }
    if (strcmp(t->request->file, "-") == 0) {
        t->upload = STDIN_FILENO;
        return true;
    }
    t->upload = open(t->request->file, O_RDONLY | O_CLOEXEC);
    if (t->upload < 0 || fstat(t->upload, &st) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot open %s", t->request->file);
    }
    if (S_ISDIR(st.st_mode)) {
        return DEPOT_FAIL(err, USAGE, "%s is a folder", t->request->file);
    }
    if (S_ISREG(st.st_mode)) {
        t->upload_size = st.st_size;
    }
    return true;
}

static void add_header(transfer *t, const char *header)
{
    struct curl_slist *longer = curl_slist_append(t->headers, header);

    t->headers = longer == NULL ? t->headers : longer; /* out of memory ends the program elsewhere */
}

static bool add_token(transfer *t, depot_arena *arena, depot_err *err)
{
    const char *path = t->options->token_file;
    struct stat st;
    char       *token = NULL;
    size_t      n = 0;

    if (path == NULL) {
        return true;
    }
    if (!depot_read_file(arena, path, TOKEN_MAX, &token, &n, err)) {
        return depot_wrap(err, "token file");
    }
    if (!t->options->quiet && stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 077) != 0) {
        fprintf(stderr, "depotctl: warning: others may read %s: chmod 600 %s\n", path, path);
    }
    token += strspn(token, " \t\r\n");
    n = strcspn(token, " \t\r\n");
    if (n == 0 || token[n + strspn(token + n, " \t\r\n")] != '\0') {
        return DEPOT_FAIL(err, USAGE, "%s does not hold one token", path);
    }
    add_header(t, depot_strf(arena, "Authorization: Bearer %.*s", (int)n, token));
    return true;
}

/* A token over plain HTTP can be read by everybody in between. */
static void warn_plain(const ctl_options *options)
{
    static const char *const local[] = { "http://127.", "http://localhost", "http://[::1]" };

    if (options->quiet || options->token_file == NULL || strncmp(options->url, "http://", 7) != 0) {
        return;
    }
    for (size_t i = 0; i < DEPOT_N(local); i++) {
        if (strncmp(options->url, local[i], strlen(local[i])) == 0) {
            return;
        }
    }
    fprintf(stderr, "depotctl: warning: the token goes to %s unencrypted\n", options->url);
}

/* A socket's address holds 107 bytes; a longer path is reached through a descriptor of its folder. */
static bool socket_path(transfer *t, depot_arena *arena, const char **out, depot_err *err)
{
    const char *path = call_place(arena, t->options);
    const char *slash = strrchr(path, '/');

    *out = path;
    if (strlen(path) < sizeof(((struct sockaddr_un *)NULL)->sun_path) || slash == NULL) {
        return true;
    }
    const char *dir = depot_strndup(arena, path, (size_t)(slash - path));
    t->socket_dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (t->socket_dir < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot open %s", dir);
    }
    *out = depot_strf(arena, "/proc/self/fd/%d%s", t->socket_dir, slash);
    return true;
}

static bool set_place(transfer *t, depot_arena *arena, depot_err *err)
{
    const char *url = t->options->url;
    const char *path = NULL;

    if (url == NULL) {
        if (!socket_path(t, arena, &path, err)) {
            return false;
        }
        curl_easy_setopt(t->curl, CURLOPT_UNIX_SOCKET_PATH, path);
        curl_easy_setopt(t->curl, CURLOPT_PROXY, ""); /* whatever the environment says of http_proxy */
        curl_easy_setopt(t->curl, CURLOPT_URL, depot_strf(arena, "http://depotd%s", t->request->target));
        return true;
    }
    if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) {
        return DEPOT_FAIL(err, USAGE, "--url %s starts neither with http:// nor with https://", url);
    }
    warn_plain(t->options);
    if (t->options->ca_file != NULL) {
        curl_easy_setopt(t->curl, CURLOPT_CAINFO, t->options->ca_file);
    }
    size_t n = strlen(url);
    n -= url[n - 1] == '/' ? 1 : 0;
    curl_easy_setopt(t->curl, CURLOPT_URL, depot_strf(arena, "%.*s%s", (int)n, url, t->request->target));
    return true;
}

static void set_body(transfer *t)
{
    const ctl_request *request = t->request;

    if (strcmp(request->method, "HEAD") == 0) {
        curl_easy_setopt(t->curl, CURLOPT_NOBODY, 1L);
        return;
    }
    if (request->file != NULL) {
        curl_easy_setopt(t->curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(t->curl, CURLOPT_READFUNCTION, on_upload);
        curl_easy_setopt(t->curl, CURLOPT_READDATA, t);
        if (t->upload_size >= 0) {
            curl_easy_setopt(t->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)t->upload_size);
        }
        add_header(t, "Content-Type: application/octet-stream");
    } else if (request->body != NULL) {
        curl_easy_setopt(t->curl, CURLOPT_POSTFIELDS, request->body);
        curl_easy_setopt(t->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(request->body));
        add_header(t, "Content-Type: application/json");
    } else if (strcmp(request->method, "POST") == 0 || strcmp(request->method, "PUT") == 0) {
        curl_easy_setopt(t->curl, CURLOPT_POSTFIELDS, "");
    }
    curl_easy_setopt(t->curl, CURLOPT_CUSTOMREQUEST, request->method);
}

static bool prepare(transfer *t, depot_arena *arena, depot_err *err)
{
    t->curl = curl_easy_init();
    if (t->curl == NULL) {
        return DEPOT_FAIL(err, BUG, "libcurl does not start");
    }
    if (!open_upload(t, err) || !set_place(t, arena, err) || !add_token(t, arena, err)) {
        return false;
    }
    set_body(t);
    add_header(t, "Accept: application/json, */*;q=0.5");
    curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(t->curl, CURLOPT_USERAGENT, "depotctl");
    curl_easy_setopt(t->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(t->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(t->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(t->curl, CURLOPT_TIMEOUT_MS, (long)t->options->timeout_ms);
    curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(t->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(t->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(t->curl, CURLOPT_XFERINFODATA, t);
    return true;
}

/* ---- outcome ---- */
static bool not_reached(const transfer *t, depot_arena *arena, CURLcode rc, call_reply *out, depot_err *err)
{
    const char *place = call_place(arena, t->options);
    long        number = 0;

    (void)curl_easy_getinfo(t->curl, CURLINFO_OS_ERRNO, &number); /* stays 0 */
    errno = (int)number;
    if (number == EACCES || number == EPERM) {
        DEPOT_FAIL(err, FORBIDDEN, "cannot open %s: %m", place);
        return depot_hint(err,
                          "run depotctl as root or as the user that depotd runs as, or use --url with --token-file");
    }
    out->away = true;
    if (number != 0) {
        DEPOT_FAIL(err, UNAVAILABLE, "depotd does not answer at %s: %m", place);
    } else {
        DEPOT_FAIL(err, UNAVAILABLE, "depotd does not answer at %s: %s", place, curl_easy_strerror(rc));
    }
    return t->options->url != NULL
               ? depot_hint(err, "check the address and that depotd runs there")
               : depot_hint(err,
                            "start it: systemctl start depotd, or depotd --foreground; is it another state folder? "
                            "--state DIR");
}

static bool broken(const transfer *t, depot_arena *arena, CURLcode rc, call_reply *out, depot_err *err)
{
    if (t->failed) {
        *err = t->err;
        return false;
    }
    if (t->idle || rc == CURLE_OPERATION_TIMEDOUT) {
        DEPOT_FAIL(err, TIMEOUT, "%s %s: no answer in time", t->request->method, t->request->target);
        return depot_hint(err, "it may still be under way there: depotctl status; --timeout DURATION waits longer");
    }
    if (rc == CURLE_COULDNT_CONNECT || rc == CURLE_COULDNT_RESOLVE_HOST) {
        return not_reached(t, arena, rc, out, err);
    }
    DEPOT_FAIL(err, UNAVAILABLE, "%s %s: %s", t->request->method, t->request->target, curl_easy_strerror(rc));
    return depot_hint(err, "the connection broke: depotctl status");
}

bool call_daemon(const ctl_options *options, const ctl_request *request, depot_arena *arena, call_reply *out,
                 depot_err *err)
{
    DEPOT_AUTO(transfer_end) transfer t = {
        .options = options,
        .request = request,
        .upload = -1,
        .socket_dir = -1,
        .sink = SINK_INIT,
        .moved_ms = depot_now_ms(),
    };
    long status = 0;

    *out = (call_reply){ .status = 0 };
    t.sink.output = request->output;
    t.sink.json = options->json;
    progress_begin(&t.bar, options->quiet);
    if (!prepare(&t, arena, err)) {
        return false;
    }
    CURLcode rc = curl_easy_perform(t.curl);
    progress_end(&t.bar);
    (void)curl_easy_getinfo(t.curl, CURLINFO_RESPONSE_CODE, &status); /* stays 0 */
    /* a refusal may come before the whole upload was sent, which then breaks off */
    bool early = rc == CURLE_SEND_ERROR && status >= 400;
    if (rc != CURLE_OK && !early) {
        return broken(&t, arena, rc, out, err);
    }
    out->status = (int)status;
    if (t.sink.kind == SINK_MEMORY || t.sink.kind == SINK_UNDECIDED) {
        out->body = depot_strndup(arena, t.sink.memory.data == NULL ? "" : t.sink.memory.data, t.sink.memory.len);
        out->len = t.sink.memory.len;
    }
    return sink_finish(&t.sink, err);
}

/* `detail` is a sentence, or with the seeds' validation errors a list of {loc, msg}. */
static const char *detail_of(depot_arena *arena, const depot_json *problem)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };
    const depot_json                    *detail = depot_json_get(problem, "detail");

    if (detail == NULL || depot_json_typeof(detail) != DEPOT_JSON_ARRAY) {
        return depot_json_get_str(problem, "detail", depot_json_get_str(problem, "title", "no reason given"));
    }
    for (size_t i = 0; i < depot_json_len(detail); i++) {
        const depot_json *loc = depot_json_get(depot_json_at(detail, i), "loc");
        const depot_json *last = loc == NULL ? NULL : depot_json_at(loc, depot_json_len(loc) - 1);
        const char       *where = last == NULL ? NULL : depot_json_string(last, NULL);

        depot_buf_addf(&out, "%s%s%s%s", i == 0 ? "" : "; ", where == NULL ? "" : where, where == NULL ? "" : ": ",
                       depot_json_get_str(depot_json_at(detail, i), "msg", "?"));
    }
    return depot_strndup(arena, out.data == NULL ? "" : out.data, out.len);
}

/* For replies that come from something in between, a proxy for instance, which knows no codes of ours. */
static depot_code code_of_status(int status)
{
    static const struct {
        int        status;
        depot_code code;
    } rows[] = {
#define DEPOT_ERROR(symbol, number, id, http, exit, retry, meaning) { http, DEPOT_E_##symbol },
#include "depot/errors.def"
#undef DEPOT_ERROR
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        if (rows[i].status == status && status != 500) {
            return rows[i].code;
        }
    }
    return DEPOT_E_UNKNOWN;
}

bool call_refused(const call_reply *reply, depot_arena *arena, depot_err *err)
{
    depot_err         ignored = { 0 };
    const depot_json *problem = depot_json_parse(arena, reply->body == NULL ? "" : reply->body, reply->len, &ignored);
    const char       *id = problem == NULL ? NULL : depot_json_get_str(problem, "code", NULL);

    if (id == NULL) {
        depot_fail(err, code_of_status(reply->status), __FILE__, __LINE__, "the answer was %d: %.200s", reply->status,
                   problem != NULL  ? detail_of(arena, problem)
                   : reply->len > 0 ? reply->body
                                    : "(nothing)");
        return false;
    }
    depot_fail(err, depot_code_by_id(id), __FILE__, __LINE__, "%s", detail_of(arena, problem));
    if (err->code == DEPOT_E_UNKNOWN) {
        (void)snprintf(err->id, sizeof(err->id), "%s", id); /* a script's own code, cut if it is a novel */
    }
    const char *hint = depot_json_get_str(problem, "hint", "");
    return hint[0] == '\0' ? false : depot_hint(err, "%s", hint);
}

const depot_json *call_problems(const call_reply *reply, depot_arena *arena)
{
    depot_err         ignored = { 0 };
    const depot_json *problem = depot_json_parse(arena, reply->body == NULL ? "" : reply->body, reply->len, &ignored);
    const depot_json *list = problem == NULL ? NULL : depot_json_get(problem, "problems");

    return list != NULL && depot_json_typeof(list) == DEPOT_JSON_ARRAY && depot_json_len(list) > 0 ? list : NULL;
}

bool call_get(const ctl_options *options, const char *target, depot_arena *arena, const depot_json **out,
              bool *out_away, depot_err *err)
{
    ctl_request request = { .method = "GET", .target = target };
    call_reply  reply;

    if (!call_daemon(options, &request, arena, &reply, err)) {
        *out_away = reply.away;
        return false;
    }
    *out_away = false;
    if (reply.status >= 400) {
        return call_refused(&reply, arena, err);
    }
    *out = depot_json_parse(arena, reply.body == NULL ? "" : reply.body, reply.len, err);
    return *out != NULL || depot_wrap(err, "GET %s", target);
}
