/* tap.h - the unit tests' harness: TAP on stdout, an exit status that says pass or fail. Include it last.
 *
 *     static void far_word_has_no_suggestion(void) { ok(depot_suggest("x", NULL, 0) == NULL, "no words"); }
 *     int main(void) { run(far_word_has_no_suggestion); return done(); }
 *
 * Checks may be made from several threads. In a child made by fork() they do not count (a failing one is shown as a
 * comment): the child tells its outcome by _exit(). */
#ifndef TAP_H
#define TAP_H

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* All but run and done give back whether the point passed, so that a test can stop early: if (!ok(...)) { return; } */
#define ok(cond, name) tap_point((cond), __FILE__, __LINE__, #cond, (name))
#define is_str(got, want, name) tap_str((got), (want), __FILE__, __LINE__, (name)) /* NULL equals only NULL */
#define is_int(got, want, name) tap_int((long long)(got), (long long)(want), __FILE__, __LINE__, (name))
#define contains(haystack, needle, name) tap_contains((haystack), (needle), __FILE__, __LINE__, (name))
#define skip(name, why) tap_skip((name), (why))
/* Runs one test function, its name as a comment before its points; ends the program when it takes too long
 * (60 s, or the number of seconds in the environment variable TAP_SECONDS). */
#define run(fn) tap_run((fn), #fn)
/* Prints the plan; return it from main. A program without a single point fails. */
#define done() tap_done()

/* Counted under the lock of stdout. */
static int         tap_count, tap_failed;
static pid_t       tap_process; /* the one whose points count */
static const char *tap_running = "no function";

/* A crash or a fork must not lose or double what stands in the buffer. */
__attribute__((constructor)) static void tap_init(void)
{
    tap_process = getpid();
    (void)setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
}

/* Names and texts may hold anything; TAP knows only lines, and '#' starts a directive. */
static inline void tap_text(const char *prefix, const char *text, bool escape_hash)
{
    fputs(prefix, stdout);
    if (text == NULL) {
        fputs("(null)", stdout);
    }
    for (const char *p = text; p != NULL && *p != '\0'; p++) {
        if (*p == '\n') {
            fputs("\\n", stdout);
        } else if (*p == '#' && escape_hash) {
            fputs("\\#", stdout);
        } else {
            putchar((unsigned char)*p < 0x20 && *p != '\t' ? '?' : *p);
        }
    }
}

static inline void tap_line(const char *prefix, const char *text)
{
    tap_text(prefix, text, false);
    putchar('\n');
}

static inline bool tap_point(bool good, const char *file, int line, const char *what, const char *name)
{
    if (getpid() != tap_process) {
        if (!good) {
            fprintf(stderr, "# in a child: %s:%d: %s: %s\n", file, line, name, what);
        }
        return good;
    }
    flockfile(stdout);
    tap_count++;
    tap_failed += good ? 0 : 1;
    printf("%s %d", good ? "ok" : "not ok", tap_count);
    tap_text(" - ", name, true);
    putchar('\n');
    if (!good) {
        printf("# %s:%d: ", file, line);
        tap_line("", what);
    }
    funlockfile(stdout);
    return good;
}

static inline bool tap_str(const char *got, const char *want, const char *file, int line, const char *name)
{
    bool good = got == NULL || want == NULL ? got == want : strcmp(got, want) == 0;

    flockfile(stdout);
    tap_point(good, file, line, "the texts differ", name);
    if (!good) {
        tap_line("#   got:  ", got);
        tap_line("#   want: ", want);
    }
    funlockfile(stdout);
    return good;
}

static inline bool tap_int(long long got, long long want, const char *file, int line, const char *name)
{
    flockfile(stdout);
    tap_point(got == want, file, line, "the numbers differ", name);
    if (got != want) {
        printf("#   got:  %lld\n#   want: %lld\n", got, want);
    }
    funlockfile(stdout);
    return got == want;
}

static inline bool tap_contains(const char *haystack, const char *needle, const char *file, int line, const char *name)
{
    bool good = haystack != NULL && needle != NULL && strstr(haystack, needle) != NULL;

    flockfile(stdout);
    tap_point(good, file, line, "the text does not hold what it should", name);
    if (!good) {
        tap_line("#   text:    ", haystack);
        tap_line("#   without: ", needle);
    }
    funlockfile(stdout);
    return good;
}

static inline bool tap_skip(const char *name, const char *why)
{
    flockfile(stdout);
    printf("ok %d", ++tap_count);
    tap_text(" - ", name, true);
    tap_line(" # SKIP ", why);
    funlockfile(stdout);
    return true;
}

#ifdef DEPOT_BASE_H
/* A call that should work: on failure its message is printed. ok_err(depot_read_file(..., &err), &err, "read it"); */
#define ok_err(call, err, name) tap_err((call), (err), __FILE__, __LINE__, #call, (name))
static inline bool tap_err(bool good, const depot_err *err, const char *file, int line, const char *what,
                           const char *name)
{
    flockfile(stdout);
    tap_point(good, file, line, what, name);
    if (!good) {
        tap_line("#   error: ", err->msg);
        tap_line("#   hint:  ", err->hint);
        printf("#   from:  %s:%d\n", err->file == NULL ? "?" : err->file, err->line);
    }
    funlockfile(stdout);
    return good;
}
#endif

/* Only async-signal-safe calls: the function may hang inside stdio. */
static void tap_too_long(int signal_number)
{
    static const char head[] = "\nBail out! still running at the deadline: ";

    (void)signal_number;
    if (write(STDOUT_FILENO, head, sizeof(head) - 1) < 0 ||
        write(STDOUT_FILENO, tap_running, strlen(tap_running)) < 0 || write(STDOUT_FILENO, "\n", 1) < 0) {
        _exit(125);
    }
    _exit(124);
}

static inline void tap_run(void (*fn)(void), const char *name)
{
    const char *seconds = getenv("TAP_SECONDS");

    tap_running = name;
    printf("# %s\n", name);
    if (signal(SIGALRM, tap_too_long) == SIG_ERR) {
        abort();
    }
    alarm(seconds == NULL ? 60 : (unsigned)strtoul(seconds, NULL, 10));
    fn();
    alarm(0);
}

static inline int tap_done(void)
{
    printf("1..%d\n# %d passed, %d failed\n", tap_count, tap_count - tap_failed, tap_failed);
    return tap_failed != 0 || tap_count == 0;
}

#endif
