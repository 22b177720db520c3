/* test_conf_golden.c - whole folders of files against what depotd --check is to say of them: tests/golden/conf/NAME
 * holds *.ini and expected.txt. REGOLD=1 writes the latter anew, for review. */
#include "conf_rig.h"
#include "tap.h"

static const char *const folders[] = { "good", "twelve-mistakes", "two-files", "secrets", "units", "binary" };

static void folders_give_the_expected_text(void)
{
    for (size_t i = 0; i < DEPOT_N(folders); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        conf_problems *problems = conf_problems_new(arena);
        const char    *path = depot_strf(arena, "%s/expected.txt", folders[i]);
        char          *want = NULL;
        depot_err      err = { 0 };
        const char *got = rig_build(arena, conf_read(arena, folders[i], problems), "/nowhere/state", problems, NULL);

        if (getenv("REGOLD") != NULL) {
            ok_err(depot_write_file(path, got, strlen(got), 0644, &err), &err, path);
        }
        if (ok_err(depot_read_file(arena, path, 1 << 20, &want, NULL, &err), &err, path)) {
            is_str(got, want, folders[i]);
        }
    }
}

int main(void)
{
    const char *source = getenv("DEPOT_SRC");

    if (unsetenv("RIG_GOLDEN_NOT_SET") != 0 || setenv("RIG_GOLDEN_HOME", "/srv", 1) != 0 ||
        (source != NULL && chdir(source) != 0) || chdir("tests/golden/conf") != 0) {
        perror("test_conf_golden: run it in the source folder or set DEPOT_SRC to it");
        return 1;
    }
    run(folders_give_the_expected_text);
    return done();
}
