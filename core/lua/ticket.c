/* ticket.c - what a script under way has logged, kept for its result: the beginning, within bounds. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "lua/supervise.h"

enum { SAID_BYTES_MAX = 16 << 10, LINE_BYTES_MAX = 2000, JOBS_BYTES_MAX = 1 << 20 /* of a range together */ };

static bool add_line(ticket *t, const depot_json *line)
{
    DEPOT_AUTO(depot_buf_free) depot_buf text = { 0 };

    depot_json_write(&text, line);
    log_redact(&text); /* it is kept with the job, for whoever reads that */
    if (t->said.len + text.len > SAID_BYTES_MAX) {
        return false;
    }
    depot_buf_adds(&t->said, t->said.len == 0 ? "" : ",");
    depot_buf_add(&t->said, text.data, text.len);
    return true;
}

static void say(ticket *t, int64_t level, const char *text, size_t n, const depot_json *fields)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    size_t                                    shown = strnlen(text, n < LINE_BYTES_MAX ? n : LINE_BYTES_MAX);
    bool                                      is_known = level >= DEPOT_LOG_DEBUG && level <= DEPOT_LOG_ERROR;
    depot_json *line = depot_json_pack(arena, "{s:s, s:s, s:o}", "at", depot_format_time(arena, depot_wall_us()), "level",
                                       log_level_name(is_known ? (depot_level)level : DEPOT_LOG_INFO), "message", depot_json_strn(arena, text, shown));

    if (fields != NULL) {
        depot_json_set(line, "fields", depot_json_pack(arena, "o", fields));
    }
    if (t->n_unsaid > 0 || !add_line(t, line)) {
        t->n_unsaid++;
    }
}

const char *ticket_said(const ticket *t, depot_arena *arena)
{
    if (t->n_unsaid > 0) {
        return depot_strf(arena, "[%s%s{\"level\":\"info\",\"message\":\"%zu more lines are in the log of the daemon\"}]",
                          t->said.len > 0 ? t->said.data : "", t->said.len > 0 ? "," : "", t->n_unsaid);
    }
    return t->said.len == 0 ? NULL : depot_strf(arena, "[%s]", t->said.data);
}

void ticket_free(ticket *t)
{
    for (ticket *job; (job = t->jobs) != NULL;) {
        t->jobs = job->next;
        ticket_free(job);
    }
    depot_buf_free(&t->said);
    free(t);
}

/* ---- jobs of a range ---- */

static ticket *find_job(const ticket *range, uint64_t id)
{
    ticket *job = range->jobs;

    while (job != NULL && job->id != id) {
        job = job->next;
    }
    return job;
}

static ticket *add_job(ticket *range, uint64_t id)
{
    ticket *job = depot_xalloc(sizeof(*job));

    *job = (ticket){ .id = id, .next = range->jobs };
    range->jobs = job;
    return job;
}

void ticket_hear(ticket *t, uint64_t id, int64_t level, const char *text, size_t n, const depot_json *fields)
{
    bool is_job = id > t->id && id <= t->id + (uint64_t)t->n;

    if (id == t->id) {
        say(t, level, text, n, fields);
    } else if (is_job) {
        ticket *job = find_job(t, id);
        job = job == NULL ? add_job(t, id) : job;
        if (t->jobs_said >= JOBS_BYTES_MAX) {
            job->n_unsaid++;
            return;
        }
        size_t before = job->said.len;
        say(job, level, text, n, fields);
        t->jobs_said += job->said.len - before;
    }
}

const char *ticket_jobs_said(const ticket *range, depot_arena *arena)
{
    DEPOT_AUTO(depot_buf_free) depot_buf out = { 0 };

    for (const ticket *job = range->jobs; job != NULL; job = job->next) {
        const char *said = ticket_said(job, arena);
        if (said != NULL) {
            depot_buf_addf(&out, "%s\"%lld\":%s", out.len == 0 ? "{" : ",", (long long)(range->first + (int64_t)(job->id - range->id) - 1), said);
        }
    }
    return out.len == 0 ? NULL : depot_strf(arena, "%s}", out.data);
}

void ticket_inherit(ticket *t, ticket *range)
{
    ticket *job = find_job(range, t->id);

    if (job != NULL) {
        t->said = job->said;
        t->n_unsaid = job->n_unsaid;
        job->said = (depot_buf){ 0 };
        job->n_unsaid = 0;
    }
}
