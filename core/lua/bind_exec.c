/* bind_exec.c - depot.exec: a program of its own process group, whose streams and end the loop watches. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lua/run.h"
#include "run/child.h"

enum { ARGS_MAX = 4096, ARGS_BYTES_MAX = 2 << 20, OUTPUT_MAX = 1 << 20, OUTPUT_MOST = 16 << 20, BLOCK = 65536 };
enum { IN, OUT, ERR, END, WATCHED };

typedef struct exec_op {
    op           base;
    engine      *engine;
    depot_arena *arena;
    child_spec   spec;
    child        child;
    uv_poll_t    polls[WATCHED];
    uv_timer_t   timer;
    int          fds[WATCHED]; /* -1: closed, or not watched */
    size_t       n_open;       /* handles that the loop still has */
    bool         started, killed, ended, timed_out, released;
    const char  *input;
    size_t       input_len, output_max;
    depot_buf    output[2];
    bool         cut;
    int          status, signal;
    int64_t      timeout_ms, due_ms;
} exec_op;

static exec_op *exec_of(op *o)
{
    return (exec_op *)(void *)o;
}

/* ---- handles ---- */

static void drop(exec_op *x)
{
    if (x->n_open > 0 || !x->released) {
        return;
    }
    x->engine->n_busy -= x->started;
    depot_buf_free(&x->output[0]);
    depot_buf_free(&x->output[1]);
    depot_arena_free(x->arena);
    free(x);
}

static void on_closed(uv_handle_t *handle)
{
    exec_op *x = handle->data;

    x->n_open--;
    drop(x);
}

/* The loop lets go of it before the number is free for somebody else. */
static void unwatch(exec_op *x, int i)
{
    if (x->fds[i] < 0) {
        return;
    }
    uv_close((uv_handle_t *)&x->polls[i], on_closed);
    if (i != END) { /* the child's own */
        close(x->fds[i]);
    }
    x->fds[i] = -1;
}

static void kill_all(exec_op *x)
{
    if (!x->ended && !x->killed) {
        x->killed = true;
        child_kill(&x->child, SIGKILL);
    }
}

/* ---- events ---- */

static void read_some(exec_op *x, int i)
{
    char       block[BLOCK];
    depot_buf *out = &x->output[i - OUT];
    ssize_t    n = read(x->fds[i], block, sizeof(block));

    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return;
    }
    if (n <= 0) {
        unwatch(x, i);
        return;
    }
    size_t room = x->output_max - out->len, take = (size_t)n < room ? (size_t)n : room;
    depot_buf_add(out, block, take);
    x->cut = x->cut || take < (size_t)n;
}

static void write_some(exec_op *x)
{
    ssize_t n = write(x->fds[IN], x->input, x->input_len);

    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return;
    }
    if (n > 0) {
        x->input += n;
        x->input_len -= (size_t)n;
    }
    if (n < 0 || x->input_len == 0) { /* a program that closes its input early has read what it wants */
        unwatch(x, IN);
    }
}

/* Also of the signal, which the status of the child alone does not tell apart from a status above 128. */
static void reap(exec_op *x)
{
    siginfo_t info = { 0 };

    if (waitid(P_PID, (id_t)x->child.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_code != CLD_EXITED) {
        x->signal = info.si_status;
    }
    unwatch(x, END);
    x->ended = child_wait(&x->child, 1000, &x->status);
}

/* While a stream is open something of the group runs, and its number is ours as long as the child is not reaped; one that
 * was killed is not waited for any longer than by its own end. */
static void look(exec_op *x)
{
    siginfo_t info = { 0 };
    bool      is_over = waitid(P_PID, (id_t)x->child.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;

    if (!is_over || (!x->killed && (x->fds[OUT] >= 0 || x->fds[ERR] >= 0))) {
        if (is_over && x->fds[END] >= 0) {
            uv_poll_stop(&x->polls[END]); /* it stays readable */
        }
        return;
    }
    reap(x);
    for (int i = IN; i < END; i++) {
        unwatch(x, i);
    }
    if (!uv_is_closing((uv_handle_t *)&x->timer)) {
        uv_close((uv_handle_t *)&x->timer, on_closed);
    }
    op_done(&x->base);
}

static void serve(exec_op *x, int i)
{
    if (i == IN) {
        write_some(x);
    } else if (i != END) {
        read_some(x, i);
    }
    look(x);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    exec_op *x = handle->data;

    (void)status;
    (void)events;
    serve(x, (int)(handle - x->polls));
}

static void time_out(exec_op *x)
{
    x->timed_out = true;
    kill_all(x);
    look(x); /* it may be over already, and only its streams be open */
}

static void on_time(uv_timer_t *timer)
{
    time_out(timer->data);
}

/* ---- what a script waits for ---- */

static void exec_block(op *o, int64_t until_ms)
{
    exec_op      *x = exec_of(o);
    struct pollfd fds[WATCHED];
    int64_t       until = x->due_ms < until_ms ? x->due_ms : until_ms, left = until - depot_now_ms();

    for (int i = 0; i < WATCHED; i++) {
        bool quiet = i == END && x->fds[END] >= 0 && !uv_is_active((uv_handle_t *)&x->polls[END]);
        fds[i] = (struct pollfd){ quiet ? -1 : x->fds[i], i == IN ? POLLOUT : POLLIN, 0 };
    }
    if (poll(fds, WATCHED, left > 0 ? (int)left : 0) > 0) {
        for (int i = 0; i < WATCHED && !o->finished; i++) {
            if (fds[i].revents != 0 && x->fds[i] >= 0) {
                serve(x, i);
            }
        }
    }
    if (!o->finished && depot_now_ms() >= x->due_ms) {
        time_out(x);
    }
}

static void push_output(lua_State *L, const depot_buf *out, const char *name)
{
    lua_pushlstring(L, out->data == NULL ? "" : out->data, out->len);
    lua_setfield(L, -2, name);
}

static int exec_push(lua_State *L, op *o)
{
    const exec_op *x = exec_of(o);

    if (x->timed_out) {
        return fail_raisef(L, DEPOT_E_TIMEOUT, "%s was still running after %d ms and was killed", x->spec.argv[0],
                           (int)x->timeout_ms);
    }
    lua_createtable(L, 0, 5);
    lua_pushinteger(L, x->status);
    lua_setfield(L, -2, "status");
    if (x->signal != 0) {
        lua_pushinteger(L, x->signal);
        lua_setfield(L, -2, "signal");
    }
    push_output(L, &x->output[0], "out");
    push_output(L, &x->output[1], "err");
    lua_pushboolean(L, x->cut);
    lua_setfield(L, -2, "truncated");
    return 1;
}

static void exec_abandon(op *o)
{
    exec_op *x = exec_of(o);

    kill_all(x);
    look(x); /* its end may be here already; else it comes by the loop, which frees it then */
}

static void exec_free(op *o)
{
    exec_op *x = exec_of(o);

    x->released = true;
    drop(x);
}

static const op_kind exec_kind = { "exec", exec_block, exec_push, exec_abandon, exec_free };

/* ---- start ---- */

static bool open_pipes(exec_op *x, int theirs[3], depot_err *err)
{
    for (int i = IN; i <= ERR; i++) {
        int pair[2];
        if (pipe2(pair, O_CLOEXEC) != 0) {
            return DEPOT_FAIL_ERRNO(err, "cannot make a pipe");
        }
        x->fds[i] = pair[i == IN];
        theirs[i] = pair[i != IN];
        if (fcntl(x->fds[i], F_SETFL, O_NONBLOCK) != 0) {
            return DEPOT_FAIL_ERRNO(err, "cannot set a pipe non-blocking");
        }
    }
    return true;
}

static bool start_child(exec_op *x, depot_err *err)
{
    int  theirs[3] = { -1, -1, -1 };
    bool ok = open_pipes(x, theirs, err);

    x->spec.in = theirs[0];
    x->spec.out = theirs[1];
    x->spec.err = theirs[2];
    x->spec.no_new_privs = x->spec.die_with_parent = true;
    ok = ok && child_start(&x->spec, &x->child, err);
    for (size_t i = 0; i < DEPOT_N(theirs); i++) {
        depot_fd_close(&theirs[i]);
    }
    for (int i = IN; i <= ERR && !ok; i++) {
        depot_fd_close(&x->fds[i]);
        x->fds[i] = -1;
    }
    return ok;
}

static void watch(exec_op *x)
{
    uv_loop_t *uv = x->engine->opt.loop;

    x->started = true;
    x->engine->n_busy++;
    x->fds[END] = x->child.pidfd;
    for (int i = 0; i < WATCHED; i++) {
        x->polls[i].data = x;
        uv_poll_init(uv, &x->polls[i], x->fds[i]); /* these are pipes and a pidfd, which epoll takes */
        uv_poll_start(&x->polls[i], i == IN ? UV_WRITABLE : UV_READABLE, on_poll);
        x->n_open++;
    }
    if (x->input_len == 0) {
        unwatch(x, IN);
    }
    x->timer.data = x;
    uv_update_time(uv);
    uv_timer_init(uv, &x->timer);
    uv_timer_start(&x->timer, on_time, (uint64_t)x->timeout_ms, 0);
    x->n_open++;
}

/* ---- from Lua: stack 1 the table ---- */

/* The text on top, judged before it is copied: one large string may stand there many times. */
static const char *read_text(lua_State *L, const char *what, size_t *bytes, depot_arena *arena)
{
    *bytes += lua_rawlen(L, -1);
    luaL_argcheck(L, *bytes <= ARGS_BYTES_MAX, 1, "arguments and env are larger than 2 MiB together");
    return bind_text(L, -1, what, arena);
}

static const char *const *read_argv(lua_State *L, size_t *bytes, depot_arena *arena)
{
    size_t       n = lua_rawlen(L, 1);
    const char **argv;

    luaL_argcheck(L, n >= 1 && n <= ARGS_MAX, 1, "a program and at most 4095 arguments");
    argv = depot_alloc(arena, (n + 1) * sizeof(*argv));
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, 1, (lua_Integer)i + 1);
        argv[i] = read_text(L, "an argument", bytes, arena);
        lua_pop(L, 1);
    }
    luaL_argcheck(L, argv[0][0] == '/', 1, "the program must be named by its whole path");
    return argv;
}

static const char *const *read_env(lua_State *L, size_t *bytes, depot_arena *arena)
{
    const char **extra = depot_alloc(arena, (CHILD_ENV_MAX + 1) * sizeof(*extra));
    size_t       n = 0;

    if (lua_getfield(L, 1, "env") != LUA_TNIL) {
        luaL_argcheck(L, lua_istable(L, -1), 1, "env must be a table of names and texts");
        lua_pushnil(L);
        while (lua_next(L, -2) != 0) {
            luaL_argcheck(L, n < CHILD_ENV_MAX, 1, "env has more than 64 variables");
            luaL_argcheck(L, lua_type(L, -2) == LUA_TSTRING && strchr(lua_tostring(L, -2), '=') == NULL, 1,
                          "env must be a table of names and texts");
            const char *value = read_text(L, "a value of env", bytes, arena);
            extra[n++] = depot_strf(arena, "%s=%s", lua_tostring(L, -2), value);
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
    return child_env(arena, extra);
}

static void read_options(lua_State *L, exec_op *x)
{
    size_t bytes = 0;

    x->spec.argv = read_argv(L, &bytes, x->arena);
    x->spec.env = read_env(L, &bytes, x->arena);
    if (lua_getfield(L, 1, "cwd") != LUA_TNIL) {
        x->spec.cwd = bind_text(L, -1, "cwd", x->arena);
    }
    if (lua_getfield(L, 1, "stdin") != LUA_TNIL) {
        const char *text = luaL_checklstring(L, lua_gettop(L), &x->input_len);
        x->input = depot_strndup(x->arena, text, x->input_len);
    }
    if (lua_getfield(L, 1, "max_output") != LUA_TNIL) {
        lua_Integer max = luaL_checkinteger(L, lua_gettop(L));
        luaL_argcheck(L, max >= 0 && max <= OUTPUT_MOST, 1, "max_output is at most 16 MiB");
        x->output_max = (size_t)max;
    }
    lua_settop(L, 1);
    x->due_ms = bind_due(L, 1, INT64_MAX);
    x->timeout_ms = x->due_ms - depot_now_ms();
}

int bind_exec(lua_State *L)
{
    static const char *const known[] = { "cwd", "env", "max_output", "stdin", "timeout", NULL };
    run      *r = vm_run(L);
    depot_err err = { 0 };

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    run_may_wait(L);
    bind_options(L, 1, "depot.exec", known);
    exec_op *x = depot_xalloc(sizeof(*x));
    x->base = (op){ .kind = &exec_kind, .run = r };
    x->engine = r->engine;
    x->arena = depot_arena_new();
    x->spec = (child_spec)CHILD_SPEC_INIT;
    x->output_max = OUTPUT_MAX;
    for (int i = 0; i < WATCHED; i++) {
        x->fds[i] = -1;
    }
    op_keep(r, &x->base);
    read_options(L, x);
    if (!run_may(r, depot_strf(x->arena, "exec:%s", x->spec.argv[0]), &err) || !start_child(x, &err)) {
        return fail_raise(L, &err);
    }
    watch(x);
    return run_wait(L, &x->base);
}
