/* The store's files: puts are found again, what is there is not replaced unless it is damaged, references never collide, work
 * that is canceled ends, a scrub goes on past what it cannot read. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unit.h"
#include "host/host.h"
#include "storage.h"
#include "tap.h"

static char      root[64], tmp_dir[80];
static depot_ctx ctx = { .name = "storage" };

static void open_store(void)
{
    static const char *const folders[] = { "objects", "refs", "tmp" };
    depot_err                err = { 0 };

    (void)snprintf(root, sizeof(root), "/tmp/test-store.XXXXXX");
    if (mkdtemp(root) == NULL) {
        abort();
    }
    for (size_t i = 0; i < DEPOT_N(folders); i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/%s", root, folders[i]);
        ok(depot_mkdirs(path, 0755, &err), path);
    }
    (void)snprintf(tmp_dir, sizeof(tmp_dir), "%s/tmp", root);
    storage_self = (store){ &ctx, root, tmp_dir, 1 };
}

typedef struct text {
    const char *at;
    size_t      left;
    int         blocks_until_cancel; /* 0: never */
    atomic_bool canceled;
} text;

static bool read_text(void *arg, void *buf, size_t size, size_t *out_n, depot_err *err)
{
    text *t = arg;

    (void)err;
    *out_n = t->left < 7 ? t->left : 7;
    *out_n = *out_n < size ? *out_n : size;
    memcpy(buf, t->at, *out_n);
    t->at += *out_n;
    t->left -= *out_n;
    if (t->blocks_until_cancel > 0 && --t->blocks_until_cancel == 0) {
        atomic_store(&t->canceled, true);
    }
    return true;
}

static bool put(const char *content, depot_object *out, depot_err *err)
{
    text t = { .at = content, .left = strlen(content) };

    return storage_service.put(read_text, &t, out, err);
}

static bool keep(void *arg, const void *buf, size_t n, depot_err *err)
{
    (void)err;
    depot_buf_add(arg, buf, n);
    return true;
}

static const char *path_of(const char *sha)
{
    static char path[256];

    (void)snprintf(path, sizeof(path), "%s/objects/%.2s/%.2s/%s.bin.gz", root, sha, sha + 2, sha);
    return path;
}

static int entries(const char *folder)
{
    DIR *dir = opendir(folder);
    int  n = 0;

    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        n += e->d_name[0] != '.' || strncmp(e->d_name, ".tmp-", 5) == 0;
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return n;
}

static bool holds(const char *sha, const char *want)
{
    DEPOT_AUTO(depot_buf_free) depot_buf got = { 0 };
    depot_err                            err = { 0 };

    return storage_service.get(sha, keep, &got, &err) && strcmp(got.data == NULL ? "" : got.data, want) == 0;
}

static void what_was_put_is_found_again(void)
{
    depot_object first, again;
    depot_err    err = { 0 };
    struct stat  st;

    ok(put("some content", &first, &err), "a put");
    is_str(first.sha, "290f493c44f5d63d06b374d0a5abd292fae38b92cab2fae5efefe1b0e9347f56", "by the digest of its content");
    ok(!first.existed && first.bytes == 12, "it is new");
    ok(stat(path_of(first.sha), &st) == 0 && st.st_size == first.stored_bytes && (st.st_mode & 07777) == 0600, "in its place, mode 0600");
    ok(holds(first.sha, "some content"), "it comes back");
    ino_t before = st.st_ino;
    ok(put("some content", &again, &err) && again.existed, "a second put finds it there");
    ok(stat(path_of(first.sha), &st) == 0 && st.st_ino == before, "and does not replace it");
    is_int(entries(tmp_dir), 0, "nothing is left in tmp");
    ok(put("", &first, &err) && holds(first.sha, "") && first.bytes == 0, "an empty one");
}

static void a_damaged_object_is_replaced_by_a_put(void)
{
    static const char *const damages[] = { "", "\x1f\x8b\x08", "no gzip file at all" };
    depot_object             o;
    depot_err                err = { 0 };

    ok(put("precious", &o, &err), "an object");
    for (size_t i = 0; i < DEPOT_N(damages); i++) {
        ok(depot_write_file(path_of(o.sha), damages[i], strlen(damages[i]), 0600, &err), "is damaged");
        ok(!storage_service.verify(o.sha, &err) && err.code == DEPOT_E_CORRUPT, "which is seen");
        ok(put("precious", &o, &err), "a put of the same content");
        is_int(o.existed, false, "says that it was not there");
        ok(holds(o.sha, "precious"), "and the object is whole again");
    }
    ok(unlink(path_of(o.sha)) == 0 && symlink("/etc/passwd", path_of(o.sha)) == 0, "a link in an object's place");
    ok(!storage_service.verify(o.sha, &err) && err.code == DEPOT_E_CORRUPT, "is not followed");
    ok(put("precious", &o, &err) && holds(o.sha, "precious"), "but replaced");
    is_int(entries(tmp_dir), 0, "nothing is left in tmp");
}

static void a_canceled_put_leaves_nothing(void)
{
    char         content[200];
    text         t = { .at = content, .left = sizeof(content), .blocks_until_cancel = 3 };
    unit         u = { .deadline_ms = INT64_MAX, .canceled = &t.canceled };
    depot_object o;
    depot_err    err = { 0 };

    memset(content, 'x', sizeof(content));
    unit_enter(&u);
    ok(!storage_service.put(read_text, &t, &o, &err), "a put whose work is canceled in the middle");
    unit_leave(&u);
    is_int(err.code, DEPOT_E_CANCELED, "ends and says so");
    ok(t.left > 0, "before all of it was read");
    is_int(entries(tmp_dir), 0, "and leaves nothing");
    ok(put("whole", &o, &err), "an object");
    unit late = { .deadline_ms = depot_now_ms() - 10 };
    unit_enter(&late);
    ok(!storage_service.verify(o.sha, &err) && err.code == DEPOT_E_TIMEOUT, "reading ends at the deadline");
    unit_leave(&late);
}

static void references_never_collide(void)
{
    enum { N = 50 };
    char         pointers[N][256];
    depot_object o;
    depot_err    err = { 0 };
    int          equal = 0;

    ok(put("shared", &o, &err), "an object");
    for (int i = 0; i < N; i++) {
        if (!storage_service.ref("proj", "asset", "a.txt", &o, pointers[i], &err)) {
            ok(false, err.msg);
            return;
        }
        for (int k = 0; k < i; k++) {
            equal += strcmp(pointers[i], pointers[k]) == 0;
        }
    }
    char folder[128];
    (void)snprintf(folder, sizeof(folder), "%s/refs/proj", root);
    is_int(equal, 0, "each reference has a name of its own");
    is_int(entries(folder), N, "and a file");
    is_int(entries(tmp_dir), 0, "nothing is left in tmp");
    static const char *const bad[] = { "", ".", "..", "../x", "a/b", ".hidden", "a b", "\xc3\xa4" };
    for (size_t i = 0; i < DEPOT_N(bad); i++) {
        ok(!storage_service.ref(bad[i], "asset", "f", &o, pointers[0], &err) && err.code == DEPOT_E_INVALID, "no name of a project");
        ok(!storage_service.ref("proj", bad[i], "f", &o, pointers[0], &err) && err.code == DEPOT_E_INVALID, "no name of an asset");
    }
}

int main(void)
{
    depot_err err = { 0 };

    run(open_store);
    run(what_was_put_is_found_again);
    run(a_damaged_object_is_replaced_by_a_put);
    run(a_canceled_put_leaves_nothing);
    run(references_never_collide);
    ok(depot_remove_tree(root, &err), "removed");
    return done();
}
