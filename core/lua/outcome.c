/* outcome.c - the codec of outcome.h. */
#include "lua/outcome.h"

#include <string.h>

depot_json *outcome_head(depot_arena *arena, const depot_script_result *res)
{
    depot_json *head = depot_json_pack(arena, "{s:I, s:I}", "cpu_us", res->cpu_us, "wall_us", res->wall_us);

    if (res->snoozed) {
        depot_json_set(head, "delay_ms", depot_json_int(arena, res->delay_ms));
    }
    if (!res->ok) {
        wire_put_err(arena, head, &res->err);
        depot_json_set(head, "where", depot_json_str(arena, res->where));
        depot_json_set(head, "trace", depot_json_str(arena, res->trace));
    }
    return head;
}

void outcome_read(depot_arena *arena, const depot_json *head, const char *text, size_t n, depot_script_result *out)
{
    *out = (depot_script_result){ .ok = depot_json_get(head, "number") == NULL };
    out->cpu_us = depot_json_get_int(head, "cpu_us", 0);
    out->wall_us = depot_json_get_int(head, "wall_us", 0);
    out->where = depot_json_get_str(head, "where", "");
    out->trace = depot_json_get_str(head, "trace", "");
    out->snoozed = depot_json_get(head, "delay_ms") != NULL;
    out->delay_ms = depot_json_get_int(head, "delay_ms", 0);
    out->json = out->ok ? depot_strndup(arena, text, n) : "null";
    if (!out->ok) {
        wire_get_err(head, &out->err);
    }
}

/* ---- ranges ---- */

depot_json *outcome_range_head(depot_arena *arena, const depot_range_result *res)
{
    depot_json *head = depot_json_pack(arena, "{s:I, s:I}", "begun", res->begun, "busy_us", res->busy_us);
    depot_json *ended = depot_json_array(arena), *going = depot_json_array(arena);

    for (size_t i = 0; i < res->n_ended; i++) {
        depot_json *job = outcome_head(arena, &res->ended[i].res);
        depot_json_set(job, "place", depot_json_int(arena, res->ended[i].place));
        depot_json_add(ended, job);
    }
    for (size_t i = 0; i < res->n_going; i++) {
        depot_json_add(going, depot_json_int(arena, res->going[i].place));
    }
    if (res->n_ended > 0) {
        depot_json_set(head, "ended", ended);
    }
    if (res->n_going > 0) {
        depot_json_set(head, "going", going);
    }
    if (res->err.code != DEPOT_OK) {
        wire_put_err(arena, head, &res->err);
    }
    return head;
}

typedef struct places {
    int64_t first, begun;
    bool   *seen;
} places;

/* Each place has one end. */
static bool take_place(places *p, int64_t place, depot_err *err)
{
    bool is_one = place >= p->first && place < p->first + p->begun && !p->seen[place - p->first];

    if (!is_one) {
        return DEPOT_FAIL(err, MALFORMED, "the end of a range tells of place %lld, which is not one of it, or twice", (long long)place);
    }
    p->seen[place - p->first] = true;
    return true;
}

static bool read_ended(depot_arena *arena, const depot_json *list, places *p, depot_range_result *out, depot_err *err)
{
    out->n_ended = list == NULL ? 0 : depot_json_len(list);
    out->ended = depot_alloc(arena, (out->n_ended + 1) * sizeof(*out->ended));
    for (size_t i = 0; i < out->n_ended; i++) {
        const depot_json *job = depot_json_at(list, i);
        depot_range_job  *to = &out->ended[i];
        to->place = depot_json_get_int(job, "place", -1);
        outcome_read(arena, job, "", 0, &to->res);
        if (!take_place(p, to->place, err)) {
            return false;
        }
        if (to->res.ok) {
            return DEPOT_FAIL(err, MALFORMED, "the end of a range tells of place %lld without an error", (long long)to->place);
        }
    }
    return true;
}

static bool read_going(depot_arena *arena, const depot_json *list, uint64_t id, places *p, depot_range_result *out,
                       depot_err *err)
{
    out->n_going = list == NULL ? 0 : depot_json_len(list);
    out->going = depot_alloc(arena, (out->n_going + 1) * sizeof(*out->going));
    for (size_t i = 0; i < out->n_going; i++) {
        const depot_json *item = depot_json_at(list, i);
        int64_t           place = depot_json_typeof(item) == DEPOT_JSON_INT ? depot_json_integer(item) : -1;
        if (!take_place(p, place, err)) {
            return false;
        }
        out->going[i] = (depot_range_going){ .place = place, .id = id + 1 + (uint64_t)(place - p->first) };
    }
    return true;
}

bool outcome_range_read(depot_arena *arena, const depot_json *head, const char *results, const outcome_range *of, depot_range_result *out,
                        depot_err *err)
{
    places p = { .first = of->first, .begun = depot_json_get_int(head, "begun", -1) };

    *out = (depot_range_result){ .begun = p.begun, .busy_us = depot_json_get_int(head, "busy_us", 0) };
    if (p.begun < 0 || p.begun > of->n) {
        return DEPOT_FAIL(err, MALFORMED, "the end of a range of %lld jobs tells of %lld", (long long)of->n, (long long)p.begun);
    }
    if (depot_json_get(head, "number") != NULL) {
        wire_get_err(head, &out->err);
    }
    p.seen = depot_alloc(arena, (size_t)of->n + 1);
    out->results = results;
    return read_ended(arena, depot_json_get(head, "ended"), &p, out, err) &&
           read_going(arena, depot_json_get(head, "going"), of->id, &p, out, err);
}
