/* store.c - bytes in and out of objects/<aa>/<bb>/<sha>.bin.gz, the layout of the seeds (seed-interfaces 2.6).
 *
 * Put: temporary file on the same file system, hashed while compressed, fsync, link without replacing, fsync of the folder.
 * Our gzip is one member without name or time, so that equal content gives equal files. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "storage.h"

enum { GZIP_WINDOW = 15 + 16, FOLDER_MODE = 0755, OBJECT_MODE = 0600, PATH_SIZE = 4096 };

store storage_self;

bool store_open(depot_ctx *ctx, depot_err *err)
{
    const storage_options *o = depot_options(ctx);
    static char            root[PATH_SIZE], tmp[PATH_SIZE]; /* the configuration's text may be replaced by a reload */
    static const char *const folders[] = { "objects", "refs", "tmp" };

    if (snprintf(root, sizeof(root), "%s", o->root) >= (int)sizeof(root) - 100) {
        return DEPOT_FAIL(err, CONFIG, "root is longer than %d bytes", (int)sizeof(root) - 100);
    }
    (void)snprintf(tmp, sizeof(tmp), "%.*s/tmp", (int)sizeof(tmp) - 8, root);
    storage_self = (store){ ctx, root, tmp, (int)o->level };
    for (size_t i = 0; i < DEPOT_N(folders); i++) {
        char path[PATH_SIZE + 16];
        (void)snprintf(path, sizeof(path), "%s/%s", root, folders[i]);
        if (!depot_mkdirs(path, FOLDER_MODE, err)) {
            return depot_hint(err, "[plugin storage] root must be a folder that depotd may write");
        }
    }
    return true;
}

bool store_is_sha(const char *sha)
{
    uint8_t bytes[32];

    return depot_unhex(sha, sizeof(bytes), bytes);
}

bool store_may_go_on(depot_err *err)
{
    if (depot_canceled()) {
        return DEPOT_FAIL(err, CANCELED, "stopped in the middle of it");
    }
    return depot_now_ms() <= depot_deadline() || DEPOT_FAIL(err, TIMEOUT, "the deadline passed in the middle of it");
}

static void object_path(const char *sha, char out[PATH_SIZE])
{
    (void)snprintf(out, PATH_SIZE, "%s/objects/%.2s/%.2s/%s.bin.gz", storage_self.root, sha, sha + 2, sha);
}

/* ---- reading ---- */

/* An object under way through inflate and hash. */
typedef struct reader {
    int         fd;
    z_stream    z;
    bool        z_open;
    EVP_MD_CTX *md;
    int64_t     bytes;
} reader;

static void reader_drop(reader *r)
{
    depot_fd_close(&r->fd);
    if (r->z_open) {
        inflateEnd(&r->z);
    }
    EVP_MD_CTX_free(r->md);
}

static bool corrupt(const char *sha, const char *why, depot_err *err)
{
    DEPOT_FAIL(err, CORRUPT, "object %s: %s", sha, why);
    return depot_hint(err, "the file is damaged; restore it from a mirror or backup");
}

static bool reader_open(reader *r, const char *sha, depot_err *err)
{
    char path[PATH_SIZE];

    if (!store_is_sha(sha)) {
        return DEPOT_FAIL(err, INVALID, "\"%.80s\" is no SHA-256: 64 lower case hex digits", sha);
    }
    object_path(sha, path);
    r->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (r->fd < 0 && errno == ENOENT) {
        return DEPOT_FAIL(err, NOT_FOUND, "no object %s", sha);
    }
    if (r->fd < 0 && errno == ELOOP) {
        return corrupt(sha, "a link stands in its place", err);
    }
    if (r->fd < 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot open %s", path);
    }
    r->md = EVP_MD_CTX_new();
    if (r->md == NULL || EVP_DigestInit_ex(r->md, EVP_sha256(), NULL) != 1) {
        return DEPOT_FAIL(err, BUG, "cannot hash");
    }
    if (inflateInit2(&r->z, GZIP_WINDOW) != Z_OK) {
        return DEPOT_FAIL(err, BUG, "cannot inflate");
    }
    r->z_open = true;
    return true;
}

static bool pass_on(reader *r, const unsigned char *out, size_t n, depot_write_fn write, void *arg, depot_err *err)
{
    r->bytes += (int64_t)n;
    if (EVP_DigestUpdate(r->md, out, n) != 1) {
        return DEPOT_FAIL(err, BUG, "cannot hash");
    }
    return write == NULL || n == 0 || write(arg, out, n, err);
}

/* Inflates what one read gave. Several gzip members are read as one stream, as gunzip does: old objects may have them. */
static bool inflate_block(reader *r, const char *sha, depot_write_fn write, void *arg, bool *ended, depot_err *err)
{
    unsigned char out[BLOCK];

    while (r->z.avail_in > 0) {
        if (*ended && (inflateReset(&r->z) != Z_OK)) {
            return corrupt(sha, "not a gzip file", err);
        }
        *ended = false;
        r->z.next_out = out;
        r->z.avail_out = sizeof(out);
        int rc = inflate(&r->z, Z_NO_FLUSH);
        if (rc != Z_OK && rc != Z_STREAM_END) {
            return corrupt(sha, "not a whole gzip file", err);
        }
        *ended = rc == Z_STREAM_END;
        if (!pass_on(r, out, sizeof(out) - r->z.avail_out, write, arg, err)) {
            return false;
        }
    }
    return true;
}

static bool digest_matches(reader *r, const char *sha)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    char          hex[65];
    unsigned      n = 0;

    if (EVP_DigestFinal_ex(r->md, digest, &n) != 1 || n != 32) {
        return false;
    }
    depot_hex(digest, n, hex);
    return strcmp(hex, sha) == 0;
}

static bool stream(const char *sha, depot_write_fn write, void *arg, int64_t *out_bytes, depot_err *err)
{
    DEPOT_AUTO(reader_drop) reader r = { .fd = -1 };
    unsigned char                  in[BLOCK];
    bool                           ended = false;

    if (!reader_open(&r, sha, err)) {
        return false;
    }
    for (;;) {
        if (!store_may_go_on(err)) {
            return depot_wrap(err, "object %s", sha);
        }
        ssize_t n = read(r.fd, in, sizeof(in));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return DEPOT_FAIL_ERRNO(err, "cannot read object %s", sha);
        }
        if (n == 0) {
            break;
        }
        r.z.next_in = in;
        r.z.avail_in = (unsigned)n;
        if (!inflate_block(&r, sha, write, arg, &ended, err)) {
            return false;
        }
    }
    if (!ended) {
        return corrupt(sha, "the file is cut short", err);
    }
    if (!digest_matches(&r, sha)) {
        return corrupt(sha, "its content does not match its name", err);
    }
    *out_bytes = r.bytes;
    return true;
}

bool store_get(const char *sha, depot_write_fn write, void *arg, depot_err *err)
{
    int64_t bytes;

    return stream(sha, write, arg, &bytes, err);
}

bool store_verify(const char *sha, depot_err *err)
{
    return store_get(sha, NULL, NULL, err);
}

bool store_stat(const char *sha, depot_object *out, depot_err *err)
{
    char        path[PATH_SIZE];
    struct stat st;

    *out = (depot_object){ .existed = true };
    if (!stream(sha, NULL, NULL, &out->bytes, err)) {
        return false;
    }
    object_path(sha, path);
    if (lstat(path, &st) != 0) {
        return DEPOT_FAIL_ERRNO(err, "cannot look at %s", path);
    }
    out->stored_bytes = st.st_size;
    memcpy(out->sha, sha, sizeof(out->sha));
    return true;
}

/* ---- writing ---- */

typedef struct writer {
    depot_tmpfile tmp;
    z_stream      z;
    bool          z_open;
    EVP_MD_CTX   *md;
    int64_t       bytes, stored;
} writer;

static void writer_drop(writer *w)
{
    depot_tmpfile_drop(&w->tmp);
    if (w->z_open) {
        deflateEnd(&w->z);
    }
    EVP_MD_CTX_free(w->md);
}

static bool writer_open(writer *w, depot_err *err)
{
    if (!depot_tmpfile_open(&w->tmp, storage_self.tmp, OBJECT_MODE, err)) {
        return false;
    }
    w->md = EVP_MD_CTX_new();
    if (w->md == NULL || EVP_DigestInit_ex(w->md, EVP_sha256(), NULL) != 1) {
        return DEPOT_FAIL(err, BUG, "cannot hash");
    }
    if (deflateInit2(&w->z, storage_self.level, Z_DEFLATED, GZIP_WINDOW, 9, Z_DEFAULT_STRATEGY) != Z_OK) {
        return DEPOT_FAIL(err, BUG, "cannot compress");
    }
    w->z_open = true;
    return true;
}

static bool compress_block(writer *w, const unsigned char *in, size_t n, int flush, depot_err *err)
{
    unsigned char out[BLOCK];

    w->z.next_in = (unsigned char *)(uintptr_t)in; /* zlib only reads it */
    w->z.avail_in = (unsigned)n;
    do {
        w->z.next_out = out;
        w->z.avail_out = sizeof(out);
        if (deflate(&w->z, flush) == Z_STREAM_ERROR) {
            return DEPOT_FAIL(err, BUG, "cannot compress");
        }
        size_t made = sizeof(out) - w->z.avail_out;
        w->stored += (int64_t)made;
        if (made > 0 && !depot_write_all(w->tmp.fd, out, made, err)) {
            return depot_wrap(err, "write to the store");
        }
    } while (w->z.avail_out == 0);
    return true;
}

static bool take_in(writer *w, depot_read_fn read_more, void *arg, depot_err *err)
{
    unsigned char in[BLOCK];

    for (;;) {
        size_t n = 0;
        if (!store_may_go_on(err) || !read_more(arg, in, sizeof(in), &n, err)) {
            return false;
        }
        if (n == 0) {
            return compress_block(w, in, 0, Z_FINISH, err);
        }
        w->bytes += (int64_t)n;
        if (EVP_DigestUpdate(w->md, in, n) != 1) {
            return DEPOT_FAIL(err, BUG, "cannot hash");
        }
        if (!compress_block(w, in, n, Z_NO_FLUSH, err)) {
            return false;
        }
    }
}

/* What stands under the final name is trusted only after it has been read: a crash of older software may have left it short. */
static bool publish(writer *w, depot_object *out, depot_err *err)
{
    char      path[PATH_SIZE], folder[PATH_SIZE];
    depot_err damage = { 0 };

    object_path(out->sha, path);
    (void)snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(path, '/') - path), path);
    if (!depot_mkdirs(folder, FOLDER_MODE, err) || !depot_tmpfile_link(&w->tmp, path, &out->existed, err)) {
        return false;
    }
    if (!out->existed || store_verify(out->sha, &damage)) {
        return true;
    }
    if (damage.code != DEPOT_E_CORRUPT) { /* it could not be read: that does not make it wrong */
        *err = damage;
        return depot_wrap(err, "what the store has already");
    }
    depot_log_err(storage_self.ctx, DEPOT_LOG_ERROR, "storage.replaced_damaged", &damage);
    out->existed = false;
    return depot_tmpfile_replace(&w->tmp, path, err);
}

static void count(const depot_object *o)
{
    const char *const *labels = DEPOT_LABELS(o->existed ? "known" : "new");

    depot_count(storage_self.ctx, "depot_storage_puts_total", labels, 1);
    depot_count(storage_self.ctx, "depot_storage_put_bytes_total", labels, (double)o->bytes);
}

bool store_put(depot_read_fn read_more, void *arg, depot_object *out, depot_err *err)
{
    DEPOT_AUTO(writer_drop) writer w = { .tmp.fd = -1 };
    unsigned char                  digest[EVP_MAX_MD_SIZE];
    unsigned                       n = 0;

    *out = (depot_object){ 0 };
    if (!writer_open(&w, err) || !take_in(&w, read_more, arg, err)) {
        return false;
    }
    if (EVP_DigestFinal_ex(w.md, digest, &n) != 1) {
        return DEPOT_FAIL(err, BUG, "cannot hash");
    }
    depot_hex(digest, n, out->sha);
    out->bytes = w.bytes;
    out->stored_bytes = w.stored;
    if (!publish(&w, out, err)) {
        return false;
    }
    count(out);
    return true;
}

const depot_storage_v1 storage_service = {
    .size = sizeof(depot_storage_v1), .put = store_put, .get = store_get, .stat = store_stat, .verify = store_verify, .ref = store_ref,
};
