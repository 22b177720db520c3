/* turn.c - scripts that compute for long take turns: a list of those that want to go on, one slice per turn of the
 * loop. */
#include <stdlib.h>

#include "lua/run.h"

static void on_turn(uv_idle_t *idle)
{
    engine *e = idle->data;
    run    *r = e->turn_first;

    turn_remove(r);
    engine_step(r);
}

void turn_open(engine *e)
{
    e->turns = depot_xalloc(sizeof(*e->turns));
    uv_idle_init(e->opt.loop, e->turns);
    e->turns->data = e;
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

void turn_close(engine *e)
{
    uv_close((uv_handle_t *)e->turns, free_handle);
}

void turn_add(run *r)
{
    engine *e = r->engine;

    r->next_turn = NULL;
    if (e->turn_first == NULL) {
        e->turn_first = r;
        uv_idle_start(e->turns, on_turn); /* fails only without a function */
    } else {
        e->turn_last->next_turn = r;
    }
    e->turn_last = r;
}

void turn_remove(run *r)
{
    engine *e = r->engine;
    run    *before = NULL;

    for (run *i = e->turn_first; i != NULL && i != r; i = i->next_turn) {
        before = i;
    }
    if ((before == NULL ? e->turn_first : before->next_turn) != r || e->turn_first == NULL) {
        return;
    }
    if (before == NULL) {
        e->turn_first = r->next_turn;
    } else {
        before->next_turn = r->next_turn;
    }
    if (e->turn_last == r) {
        e->turn_last = before;
    }
    r->next_turn = NULL;
    if (e->turn_first == NULL) {
        uv_idle_stop(e->turns);
    }
}
