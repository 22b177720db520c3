/* test_err.c - error values: filled as stated, cut between characters, looked up in errors.def. */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/abort.h"
#include "tap.h"

static void a_failure_fills_everything(void)
{
    depot_err err = { .hint = "old", .sqlstate = "40001", .id = "OLD" };

    ok(!DEPOT_FAIL(&err, NOT_FOUND, "no asset %d", 7), "DEPOT_FAIL is false");
    is_int(err.code, DEPOT_E_NOT_FOUND, "code");
    is_str(err.msg, "no asset 7", "message");
    is_str(err.hint, "", "what stood there before is gone: hint");
    is_str(err.sqlstate, "", "sqlstate");
    is_str(depot_err_id(&err), "NOT_FOUND", "id");
    contains(err.file, "test_err.c", "source file");
    ok(err.line > 0, "source line");
    is_int(err.sys_errno, 0, "errno plays no part in it");
}

static void errno_is_kept_where_it_matters(void)
{
    depot_err err = { 0 };

    errno = EACCES;
    (void)DEPOT_FAIL(&err, IO, "cannot open %s: %m", "/x");
    is_str(err.msg, "cannot open /x: Permission denied", "%m is errno's text");
    is_int(err.sys_errno, EACCES, "and errno is noted");
    is_int(errno, EACCES, "and unchanged");
}

static void errno_chooses_the_code(void)
{
    static const struct {
        int         number;
        depot_code  code;
        const char *text;
    } rows[] = {
        { ENOENT, DEPOT_E_IO, "cannot open /x: No such file or directory" },
        { ENOSPC, DEPOT_E_NO_SPACE, "cannot open /x: No space left on device" },
        { EDQUOT, DEPOT_E_NO_SPACE, "cannot open /x: Disk quota exceeded" },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err err = { 0 };
        errno = rows[i].number;
        ok(!DEPOT_FAIL_ERRNO(&err, "cannot open %s", "/x"), "DEPOT_FAIL_ERRNO is false");
        is_int(err.code, rows[i].code, rows[i].text);
        is_str(err.msg, rows[i].text, "message ends in errno's text");
        is_int(err.sys_errno, rows[i].number, "errno is noted");
    }
}

static void a_long_path_keeps_its_reason(void)
{
    depot_err err = { 0 };
    char      path[600];

    memset(path, 'p', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    errno = ENOSPC;
    (void)DEPOT_FAIL_ERRNO(&err, "cannot open %s", path);
    is_int(strlen(err.msg), sizeof(err.msg) - 1, "the message is full");
    contains(err.msg, ": No space left on device", "the reason is there");
}

static void text_is_cut_between_characters(void)
{
    depot_err err = { 0 };
    char      text[700];

    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'a', shift);
        for (size_t i = shift; i + 4 < sizeof(text); i += 4) {
            memcpy(text + i, "\xF0\x9F\x98\x80", 5);
        }
        (void)DEPOT_FAIL(&err, INVALID, "%s", text);
        ok(depot_utf8_valid(err.msg, strlen(err.msg)), "message is valid UTF-8");
        ok(strlen(err.msg) > sizeof(err.msg) - 5, "and nearly full");
        (void)depot_hint(&err, "%s", text);
        ok(depot_utf8_valid(err.hint, strlen(err.hint)), "hint is valid UTF-8");
        (void)depot_wrap(&err, "%s", "ab");
        ok(depot_utf8_valid(err.msg, strlen(err.msg)), "wrapped message is valid UTF-8");
    }
}

static void context_goes_in_front(void)
{
    depot_err err = { 0 };

    (void)DEPOT_FAIL(&err, TIMEOUT, "no answer in %d ms", 50);
    (void)depot_hint(&err, "is the server up");
    ok(!depot_wrap(&err, "replica %s", "n2"), "depot_wrap is false");
    is_str(err.msg, "replica n2: no answer in 50 ms", "context, colon, message");
    is_str(err.hint, "is the server up", "the hint stays");
    is_int(err.code, DEPOT_E_TIMEOUT, "the code stays");
}

static void an_error_may_be_made_of_itself(void)
{
    depot_err err = { 0 };

    (void)DEPOT_FAIL(&err, IO, "first");
    (void)DEPOT_FAIL(&err, CONFLICT, "second after %s", err.msg);
    is_str(err.msg, "second after first", "its own message as operand");
    (void)depot_hint(&err, "see %s", err.msg);
    (void)depot_hint(&err, "really %s", err.hint);
    is_str(err.hint, "really see second after first", "its own hint as operand");
    (void)depot_wrap(&err, "%s", err.hint);
    is_str(err.msg, "really see second after first: second after first", "its own hint as context");
}

static void rows_of_the_list_are_found(void)
{
    static const struct {
        depot_code  code;
        const char *id;
        int         http, exit_status;
        depot_retry retry;
    } rows[] = {
        { DEPOT_E_BUG, "BUG", 500, 1, DEPOT_RETRY_NO },
        { DEPOT_E_CONFIG, "CONFIG", 422, 78, DEPOT_RETRY_NO },
        { DEPOT_E_RATE, "ENQUEUE_RATE_EXCEEDED", 429, 1, DEPOT_RETRY_SAFE },
        { DEPOT_E_DB_UNKNOWN, "DB_COMMIT_UNKNOWN", 503, 1, DEPOT_RETRY_UNCERTAIN },
        { DEPOT_E_UNKNOWN, "UNKNOWN", 500, 1, DEPOT_RETRY_SAFE },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        depot_err err = { .code = rows[i].code };
        is_str(depot_err_id(&err), rows[i].id, "id");
        is_int(depot_err_http(&err), rows[i].http, "http status");
        is_int(depot_err_exit(&err), rows[i].exit_status, "exit status");
        is_int(depot_err_retry(&err), rows[i].retry, "retry class");
        is_int(depot_code_by_id(rows[i].id), rows[i].code, "code by id");
    }
    is_int(depot_code_by_id("MAIL_REFUSED"), DEPOT_E_UNKNOWN, "an id that is not in the list");
}

static void a_script_may_name_its_own_code(void)
{
    depot_err err = { .code = DEPOT_E_UNKNOWN, .id = "MAIL_REFUSED" };
    depot_err odd = { .code = (depot_code)9999 };

    is_str(depot_err_id(&err), "MAIL_REFUSED", "own id");
    is_int(depot_err_http(&err), 500, "with the status of UNKNOWN");
    is_str(depot_err_id(&odd), "UNKNOWN", "a number outside the list is UNKNOWN");
}

static void numbers_and_ids_are_unique(void)
{
    static const struct {
        int         number;
        const char *id;
    } rows[] = {
#define DEPOT_ERROR(symbol, number, id, http, exit, retry, meaning) { number, id },
#include "depot/errors.def"
#undef DEPOT_ERROR
    };
    size_t clashes = 0;

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        for (size_t j = 0; j < i; j++) {
            clashes += rows[i].number == rows[j].number || strcmp(rows[i].id, rows[j].id) == 0;
        }
    }
    is_int(clashes, 0, "no number and no id stands twice in errors.def");
}

static void an_abort_says_why(void)
{
    int  ends[2];
    char said[200] = "";

    if (!ok(pipe(ends) == 0, "pipe")) {
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)signal(SIGABRT, SIG_DFL);
        (void)dup2(ends[1], STDERR_FILENO);
        base_abort("nothing left of %s", "it");
    }
    int status = 0;
    is_int(waitpid(pid, &status, 0), pid, "the child ended");
    ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "by SIGABRT");
    ok(read(ends[0], said, sizeof(said) - 1) > 0, "and said something");
    is_str(said, "depotd: nothing left of it\n", "namely why");
    (void)close(ends[0]);
    (void)close(ends[1]);
}

int main(void)
{
    run(a_failure_fills_everything);
    run(errno_is_kept_where_it_matters);
    run(errno_chooses_the_code);
    run(a_long_path_keeps_its_reason);
    run(text_is_cut_between_characters);
    run(context_goes_in_front);
    run(an_error_may_be_made_of_itself);
    run(rows_of_the_list_are_found);
    run(a_script_may_name_its_own_code);
    run(numbers_and_ids_are_unique);
    run(an_abort_says_why);
    return done();
}
