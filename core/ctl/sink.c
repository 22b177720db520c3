/* sink.c - takes a reply's bytes as they come; a download is never whole in memory. */
#include "ctl/sink.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MEMORY_MAX = 256 << 20 };

static bool has_type(const char *content_type, const char *prefix)
{
    return content_type != NULL && strncasecmp(content_type, prefix, strlen(prefix)) == 0;
}

static bool is_json(const char *content_type)
{
    return has_type(content_type, "application/json") || has_type(content_type, "application/problem+json");
}

/* A link stays one: what it leads to is replaced. A device or a pipe is written to. */
static bool open_output(sink *s, depot_err *err)
{
    struct stat st;
    char        target[PATH_MAX];
    char        dir[sizeof(s->path)];
    bool        exists = stat(s->output, &st) == 0;
    const char *path = exists && realpath(s->output, target) != NULL ? target : s->output;

    if (exists && !S_ISREG(st.st_mode)) {
        s->kind = SINK_STDOUT;
        s->fd = open(s->output, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        return s->fd >= 0 || DEPOT_FAIL_ERRNO(err, "cannot open %s", s->output);
    }
    int         length = snprintf(s->path, sizeof(s->path), "%s", path);
    const char *slash = strrchr(s->path, '/');
    if (length < 0 || (size_t)length >= sizeof(s->path)) {
        return DEPOT_FAIL(err, USAGE, "the path of the output is longer than %zu bytes", sizeof(s->path) - 1);
    }
    size_t n = slash == NULL ? 1 : slash == s->path ? 1 : (size_t)(slash - s->path);
    memcpy(dir, slash == NULL ? "." : s->path, n);
    dir[n] = '\0';
    mode_t mask = umask(0); /* reading it means setting it; there is one thread */
    (void)umask(mask);
    s->kind = SINK_FILE;
    return depot_tmpfile_open(&s->tmp, dir, 0666 & ~mask, err);
}

bool sink_choose(sink *s, int status, const char *content_type, depot_err *err)
{
    if (status >= 400 || is_json(content_type)) {
        s->kind = SINK_MEMORY;
        return true;
    }
    if (has_type(content_type, "text/event-stream")) {
        s->kind = SINK_EVENTS;
        return true;
    }
    if (s->output != NULL && strcmp(s->output, "-") != 0) {
        return open_output(s, err);
    }
    if (s->output == NULL && !has_type(content_type, "text/") && isatty(STDOUT_FILENO) == 1) {
        DEPOT_FAIL(err, USAGE, "the reply is %s and would go to a terminal",
                   content_type == NULL ? "of no stated type" : content_type);
        return depot_hint(err, "add --output FILE, or --output - to print it all the same");
    }
    s->kind = SINK_STDOUT;
    s->fd = STDOUT_FILENO;
    return true;
}

/* One block of "field: value" lines. Comments (": ping") say nothing. */
static bool print_event(const sink *s, const char *block, size_t n, depot_err *err)
{
    DEPOT_AUTO(depot_buf_free) depot_buf line = { 0 };
    DEPOT_AUTO(depot_buf_free) depot_buf data = { 0 };

    for (const char *p = block, *end = block + n; p < end;) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        size_t      length = newline == NULL ? (size_t)(end - p) : (size_t)(newline - p);
        size_t      text = length > 0 && p[length - 1] == '\r' ? length - 1 : length;

        if (text > 6 && strncmp(p, "data:", 5) == 0) {
            size_t skip = p[5] == ' ' ? 6 : 5;

            depot_buf_adds(&data, data.len > 0 ? " " : "");
            depot_buf_add(&data, p + skip, text - skip);
        } else if (text > 7 && strncmp(p, "event:", 6) == 0 && !s->json) {
            size_t skip = p[6] == ' ' ? 7 : 6;

            depot_buf_add(&line, p + skip, text - skip);
            depot_buf_adds(&line, "  ");
        }
        p += length + 1;
    }
    if (data.len == 0) {
        return true;
    }
    depot_buf_add(&line, data.data, data.len);
    depot_buf_adds(&line, "\n");
    return depot_write_all(STDOUT_FILENO, line.data, line.len, err);
}

static bool add_events(sink *s, const char *p, size_t n, depot_err *err)
{
    depot_buf_add(&s->memory, p, n);
    while (s->memory.len > 0) {
        const char *end = memmem(s->memory.data, s->memory.len, "\n\n", 2);

        if (end == NULL) {
            return s->memory.len <= MEMORY_MAX ||
                   DEPOT_FAIL(err, TOO_LARGE, "an event is longer than %d bytes", MEMORY_MAX);
        }
        size_t length = (size_t)(end - s->memory.data) + 2;
        if (!print_event(s, s->memory.data, length, err)) {
            return false;
        }
        memmove(s->memory.data, s->memory.data + length, s->memory.len - length + 1);
        s->memory.len -= length;
    }
    return true;
}

bool sink_write(sink *s, const char *p, size_t n, depot_err *err)
{
    switch (s->kind) {
    case SINK_UNDECIDED:
        return DEPOT_FAIL(err, BUG, "a reply arrived before its head");
    case SINK_MEMORY:
        if (s->memory.len + n > MEMORY_MAX) {
            return DEPOT_FAIL(err, TOO_LARGE, "the reply is longer than %d bytes", MEMORY_MAX);
        }
        depot_buf_add(&s->memory, p, n);
        return true;
    case SINK_FILE:
        return depot_write_all(s->tmp.fd, p, n, err);
    case SINK_STDOUT:
        return depot_write_all(s->fd, p, n, err);
    case SINK_EVENTS:
        return add_events(s, p, n, err);
    }
    return DEPOT_FAIL(err, BUG, "no sink");
}

bool sink_save(const char *output, const void *p, size_t n, depot_err *err)
{
    DEPOT_AUTO(sink_close) sink s = SINK_INIT;

    s.output = output;
    return open_output(&s, err) && sink_write(&s, p, n, err) && sink_finish(&s, err);
}

bool sink_finish(sink *s, depot_err *err)
{
    return s->kind != SINK_FILE || depot_tmpfile_replace(&s->tmp, s->path, err);
}

void sink_close(sink *s)
{
    depot_tmpfile_drop(&s->tmp);
    depot_buf_free(&s->memory);
    if (s->fd != STDOUT_FILENO) {
        depot_fd_close(&s->fd);
    }
}
