/* lua.c - the store for scripts. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage.h"

typedef struct bytes {
    const char *p;
    size_t      left;
} bytes;

static bool read_bytes(void *arg, void *buf, size_t size, size_t *out_n, depot_err *err)
{
    bytes *b = arg;
    size_t n = b->left < size ? b->left : size;

    (void)err;
    memcpy(buf, b->p, n);
    b->p += n;
    b->left -= n;
    *out_n = n;
    return true;
}

static void give(depot_call *call, const depot_object *o)
{
    depot_return_json(call, depot_json_pack(depot_call_arena(call), "{s:s, s:I, s:I, s:b}", "sha", o->sha, "bytes", o->bytes,
                                            "stored_bytes", o->stored_bytes, "existed", (int)o->existed));
}

static bool lua_put(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    bytes        b = { 0 };
    depot_object o;

    (void)ctx;
    b.p = depot_arg_str(call, 0, &b.left);
    if (!store_put(read_bytes, &b, &o, err)) {
        return false;
    }
    give(call, &o);
    return true;
}

static bool read_fd(void *arg, void *buf, size_t size, size_t *out_n, depot_err *err)
{
    for (;;) {
        ssize_t n = read(*(int *)arg, buf, size);
        if (n >= 0) {
            *out_n = (size_t)n;
            return true;
        }
        if (errno != EINTR) {
            return DEPOT_FAIL_ERRNO(err, "cannot read the file");
        }
    }
}

/* Judged by the file that is open, not by its name: links and races lead nowhere else. */
static bool allowed(depot_ctx *ctx, int fd, const char *path, depot_err *err)
{
    const storage_options *o = depot_options(ctx);
    char                   link[64], real[PATH_MAX], folder[PATH_MAX];
    struct stat            st;

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, real, sizeof(real) - 1);
    if (n <= 0 || fstat(fd, &st) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot look at %s", path);
    }
    real[n] = '\0';
    for (size_t i = 0; o->import != NULL && o->import[i] != NULL; i++) {
        if (realpath(o->import[i], folder) == NULL) {
            continue;
        }
        size_t len = strlen(folder);
        if (strncmp(real, folder, len) == 0 && (real[len] == '/' || folder[len - 1] == '/')) {
            return S_ISREG(st.st_mode) || DEPOT_FAIL(err, INVALID, "%s is not a regular file", path);
        }
    }
    DEPOT_FAIL(err, FORBIDDEN, "scripts may not read %s", path);
    return depot_hint(err, "add its folder to [plugin storage] import");
}

static bool lua_put_file(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    const char  *path = depot_arg_str(call, 0, NULL);
    depot_object o;

    DEPOT_AUTO(depot_fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && errno == ENOENT) {
        return DEPOT_FAIL(err, NOT_FOUND, "no file %s", path);
    }
    if (fd < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot open %s", path);
    }
    if (!allowed(ctx, fd, path, err) || !store_put(read_fd, &fd, &o, err)) {
        return false;
    }
    give(call, &o);
    return true;
}

/* What a script gets of an object: at most max bytes from its start. */
typedef struct head {
    depot_buf text;
    size_t    max;
    bool      cut;
} head;

static void head_drop(head *h)
{
    depot_buf_free(&h->text);
}

static bool keep(void *arg, const void *buf, size_t n, depot_err *err)
{
    head  *h = arg;
    size_t room = h->max - h->text.len;

    (void)err;
    depot_buf_add(&h->text, buf, n < room ? n : room);
    h->cut = h->cut || n > room;
    return true;
}

static bool lua_get(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    const storage_options *o = depot_options(ctx);
    const char            *sha = depot_arg_str(call, 0, NULL);
    const depot_json      *opts = depot_arg_json(call, 1);
    int64_t                wanted = depot_json_get_int(opts, "max_bytes", -1);
    DEPOT_AUTO(head_drop) head h = { .max = (size_t)(wanted >= 0 && wanted < o->script_max ? wanted : o->script_max) };

    if (!store_get(sha, keep, &h, err)) {
        return false;
    }
    if (h.cut && (wanted < 0 || wanted > o->script_max)) {
        DEPOT_FAIL(err, TOO_LARGE, "object %s is larger than a script may hold", sha);
        return depot_hint(err, "ask for less of its beginning with {max_bytes = n}, or raise [plugin storage] script_max");
    }
    depot_return_str(call, h.text.data == NULL ? "" : h.text.data, h.text.len);
    return true;
}

static bool lua_ref(depot_ctx *ctx, depot_call *call, depot_err *err)
{
    depot_object o;
    char         pointer[256];

    (void)ctx;
    if (!store_stat(depot_arg_str(call, 3, NULL), &o, err) ||
        !store_ref(depot_arg_str(call, 0, NULL), depot_arg_str(call, 1, NULL), depot_arg_str(call, 2, NULL), &o, pointer, err)) {
        return false;
    }
    depot_return_str(call, pointer, strlen(pointer));
    return true;
}

/* clang-format off */
const depot_lua_fn storage_lua[4] = {
    { "storage.put", "(data: string): table", DEPOT_LUA_WRITE, lua_put,
      "store bytes; returns {sha, bytes, stored_bytes, existed}; durable when it returns", NULL, NULL },
    { "storage.put_file", "(path: string): table", DEPOT_LUA_WRITE, lua_put_file,
      "store a file that lies below a folder of [plugin storage] import; returns {sha, bytes, stored_bytes, existed}", NULL, NULL },
    { "storage.get", "(sha: string, opts?: table): string", 0, lua_get,
      "content of an object, verified; opts: {max_bytes = n} for its beginning only", NULL, NULL },
    { "storage.ref", "(project: string, asset: string, filename: string, sha: string): string", DEPOT_LUA_WRITE, lua_ref,
      "write the manifest that ties an object to an asset; returns its depot:// pointer", NULL, NULL },
};
/* clang-format on */
