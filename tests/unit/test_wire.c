/* test_wire.c - frames: written, cut into pieces, read; and those that nobody should send. */
#include <pthread.h>
#include <sys/socket.h>

#include "lua/wire.h"
#include "tap.h"

static void a_frame_reads_as_it_was_written(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_buf_free) depot_buf      out = { 0 };
    DEPOT_AUTO(wire_reader_free) wire_reader  r = { 0 };
    const depot_json                         *head;
    const char                               *text;
    size_t                                    n;
    wire_frame                                frame;
    depot_err                                 err = { 0 };

    wire_put_json(&out, WIRE_RUN, 0x0123456789abcdefULL,
                  depot_json_pack(arena, "{s:s, s:I}", "name", "a\nb", "ms", INT64_MAX), "{\"x\":\n1}", 8);
    is_int(out.data[4], WIRE_RUN, "the type is the fifth byte");
    for (size_t i = 0; i + 1 < out.len; i++) {
        wire_reader_add(&r, out.data + i, 1);
        if (wire_reader_next(&r, &frame, &err) != WIRE_MORE) {
            ok(false, "a part is no frame");
        }
    }
    wire_reader_add(&r, out.data + out.len - 1, 1);
    if (!ok(wire_reader_next(&r, &frame, &err) == WIRE_FRAME, "the last byte makes it one")) {
        return;
    }
    ok(frame.id == 0x0123456789abcdefULL && frame.type == WIRE_RUN, "its id and type");
    ok_err(wire_parse(arena, &frame, &head, &text, &n, &err), &err, "its payload");
    is_str(depot_json_get_str(head, "name", ""), "a\nb", "a member");
    is_int(depot_json_get_int(head, "ms", 0), INT64_MAX, "another");
    ok(n == 8 && memcmp(text, "{\"x\":\n1}", 8) == 0, "the text below, with its line feed");
    ok(wire_reader_next(&r, &frame, &err) == WIRE_MORE, "nothing comes after it");
}

static void many_frames_come_in_pieces(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    DEPOT_AUTO(depot_buf_free) depot_buf      out = { 0 };
    DEPOT_AUTO(wire_reader_free) wire_reader  r = { 0 };
    wire_frame                                frame;
    depot_err                                 err = { 0 };
    size_t                                    got = 0, piece = 1;
    bool                                      in_order = true;

    for (uint64_t i = 0; i < 20000; i++) {
        wire_put_json(&out, WIRE_LOG, i, depot_json_object(arena), "0123456789", (size_t)(i % 11));
    }
    for (size_t at = 0; at < out.len; at += piece, piece = piece * 7 % 4093 + 1) {
        size_t left = out.len - at;
        piece = piece < left ? piece : left;
        wire_reader_add(&r, out.data + at, piece);
        while (wire_reader_next(&r, &frame, &err) == WIRE_FRAME) {
            in_order = in_order && frame.id == got;
            got++;
        }
    }
    is_int(got, 20000, "all come");
    ok(in_order, "in order");
    ok(r.in.cap < out.len, "and are not kept");
}

static void bad_frames_are_refused(void)
{
    static const struct {
        const char *name, *bytes, *want;
        size_t      n;
    } rows[] = {
        { "too large", "\x01\x00\x00\x02\x04\0\0\0\0\0\0\0\0", "larger than", 13 },
        { "far too large", "\xff\xff\xff\xff\x04\0\0\0\0\0\0\0\0", "larger than", 13 },
        { "type 0", "\0\0\0\0\0\0\0\0\0\0\0\0\0", "unknown type 0", 13 },
        { "type 63", "\0\0\0\0\x3f\0\0\0\0\0\0\0\0", "unknown type 63", 13 },
        { "type 255", "\0\0\0\0\xff\0\0\0\0\0\0\0\0", "unknown type 255", 13 },
    };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        DEPOT_AUTO(wire_reader_free) wire_reader r = { 0 };
        wire_frame                               frame;
        depot_err                                err = { 0 };
        wire_reader_add(&r, rows[i].bytes, rows[i].n);
        ok(wire_reader_next(&r, &frame, &err) == WIRE_BAD, rows[i].name);
        contains(err.msg, rows[i].want, rows[i].name);
    }
}

static void payloads_must_be_objects(void)
{
    static const char *const rows[] = { "", "[]", "1", "{", "{}x", "null\ntext", "{\"a\":1,\"a\":2}" };

    for (size_t i = 0; i < DEPOT_N(rows); i++) {
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        const wire_frame                          frame = { WIRE_DONE, 1, rows[i], strlen(rows[i]) };
        const depot_json                         *head;
        const char                               *text;
        size_t                                    n;
        depot_err                                 err = { 0 };
        ok(!wire_parse(arena, &frame, &head, &text, &n, &err), rows[i][0] == '\0' ? "nothing" : rows[i]);
        is_int(err.code, DEPOT_E_MALFORMED, "is malformed");
    }
}

static void errors_travel(void)
{
    DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
    depot_json                               *head = depot_json_object(arena);
    depot_err                                 sent = { 0 }, got;

    (void)DEPOT_FAIL(&sent, DB_DEADLOCK, "cannot %s", "write");
    depot_hint(&sent, "try again");
    memcpy(sent.sqlstate, "40P01", 6);
    memcpy(sent.id, "OWN", 4);
    wire_put_err(arena, head, &sent);
    wire_get_err(head, &got);
    is_int(got.code, DEPOT_E_DB_DEADLOCK, "code");
    is_str(got.msg, "cannot write", "message");
    is_str(got.hint, "try again", "hint");
    is_str(got.sqlstate, "40P01", "SQLSTATE");
    is_str(depot_err_id(&got), "OWN", "own id");
    wire_get_err(depot_json_pack(arena, "{s:i, s:s}", "number", 9999, "message", "x"), &got);
    is_int(got.code, DEPOT_E_UNKNOWN, "a number that is not on the list");
    wire_get_err(depot_json_object(arena), &got);
    is_int(got.code, DEPOT_E_UNKNOWN, "none at all");
}

static void receive_waits_no_longer_than_told(void)
{
    DEPOT_AUTO(wire_reader_free) wire_reader r = { 0 };
    DEPOT_AUTO(depot_buf_free) depot_buf     out = { 0 };
    wire_frame                               frame;
    depot_err                                err = { 0 };
    int                                      pair[2];

    if (!ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "a pair")) {
        return;
    }
    int64_t began = depot_now_ms();
    ok(!wire_receive(pair[0], &r, 100, &frame, &err), "nothing comes");
    is_int(err.code, DEPOT_E_TIMEOUT, "TIMEOUT");
    ok(depot_now_ms() - began < 20000, "soon");
    wire_put(&out, WIRE_HELLO, 5, "{}", 2);
    ok(write(pair[1], out.data, out.len) == (ssize_t)out.len && wire_receive(pair[0], &r, 1000, &frame, &err),
       "a frame comes");
    is_int(frame.id, 5, "its id");
    ok(write(pair[1], out.data, 5) == 5, "a part of one");
    depot_fd_close(&pair[1]);
    ok(!wire_receive(pair[0], &r, 1000, &frame, &err), "and then the end");
    is_int(err.code, DEPOT_E_IO, "is an error");
    depot_fd_close(&pair[0]);
}

int main(void)
{
    run(a_frame_reads_as_it_was_written);
    run(many_frames_come_in_pieces);
    run(bad_frames_are_refused);
    run(payloads_must_be_objects);
    run(errors_travel);
    run(receive_waits_no_longer_than_told);
    return done();
}
