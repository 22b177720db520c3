/* wire.c - the codec of wire.h. */
#include "lua/wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

enum { READ_BLOCK_BYTES = 65536 };

static void put_number(unsigned char *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        at[i] = (unsigned char)(value >> (8 * i));
    }
}

static uint64_t get_number(const char *at, size_t bytes)
{
    uint64_t value = 0;

    for (size_t i = 0; i < bytes; i++) {
        value |= (uint64_t)(unsigned char)at[i] << (8 * i);
    }
    return value;
}

static void put_header(depot_buf *out, wire_type type, uint64_t id, size_t n)
{
    unsigned char header[WIRE_HEADER_BYTES];

    put_number(header, n, 4);
    header[4] = (unsigned char)type;
    put_number(header + 5, id, 8);
    depot_buf_add(out, header, sizeof(header));
}

void wire_put(depot_buf *out, wire_type type, uint64_t id, const void *payload, size_t n)
{
    put_header(out, type, id, n);
    depot_buf_add(out, payload, n);
}

void wire_put_json(depot_buf *out, wire_type type, uint64_t id, const depot_json *head, const char *text, size_t n)
{
    size_t start = out->len;

    put_header(out, type, id, 0);
    depot_json_write(out, head);
    if (text != NULL) {
        depot_buf_add(out, "\n", 1);
        depot_buf_add(out, text, n);
    }
    put_number((unsigned char *)out->data + start, out->len - start - WIRE_HEADER_BYTES, 4);
}

void wire_reader_add(wire_reader *r, const void *bytes, size_t n)
{
    if (r->at == r->in.len) {
        depot_buf_reset(&r->in);
        r->at = 0;
    } else if (r->at > READ_BLOCK_BYTES && r->at > r->in.len / 2) { /* moves less than was consumed before */
        memmove(r->in.data, r->in.data + r->at, r->in.len - r->at);
        r->in.len -= r->at;
        r->at = 0;
    }
    depot_buf_add(&r->in, bytes, n);
}

static bool is_known(unsigned type)
{
    return (type >= WIRE_HELLO && type <= WIRE_ENOUGH) || (type >= WIRE_READY && type <= WIRE_RANGED);
}

wire_state wire_reader_next(wire_reader *r, wire_frame *out, depot_err *err)
{
    size_t left = r->in.len - r->at;

    if (left < WIRE_HEADER_BYTES) {
        return WIRE_MORE;
    }
    const char *at = r->in.data + r->at;
    size_t      n = (size_t)get_number(at, 4);
    unsigned    type = (unsigned char)at[4];
    if (n > WIRE_PAYLOAD_MAX) {
        DEPOT_FAIL(err, MALFORMED, "a frame of %zu bytes is larger than %d", n, WIRE_PAYLOAD_MAX);
        return WIRE_BAD;
    }
    if (!is_known(type)) {
        DEPOT_FAIL(err, MALFORMED, "a frame of unknown type %u", type);
        return WIRE_BAD;
    }
    if (left - WIRE_HEADER_BYTES < n) {
        return WIRE_MORE;
    }
    *out = (wire_frame){ (wire_type)type, get_number(at + 5, 8), at + WIRE_HEADER_BYTES, n };
    r->at += WIRE_HEADER_BYTES + n;
    return WIRE_FRAME;
}

void wire_reader_free(wire_reader *r)
{
    depot_buf_free(&r->in);
    r->at = 0;
}

bool wire_parse(depot_arena *arena, const wire_frame *frame, const depot_json **out_head, const char **out_text,
                size_t *out_n, depot_err *err)
{
    const char *feed = memchr(frame->payload, '\n', frame->n);
    size_t      head_bytes = feed == NULL ? frame->n : (size_t)(feed - frame->payload);

    *out_text = feed == NULL ? "" : feed + 1;
    *out_n = feed == NULL ? 0 : frame->n - head_bytes - 1;
    *out_head = depot_json_parse(arena, frame->payload, head_bytes, err);
    if (*out_head == NULL) {
        return depot_wrap(err, "frame of type %d", (int)frame->type);
    }
    if (depot_json_typeof(*out_head) != DEPOT_JSON_OBJECT) {
        return DEPOT_FAIL(err, MALFORMED, "frame of type %d holds no object", (int)frame->type);
    }
    return true;
}

void wire_put_err(depot_arena *arena, depot_json *head, const depot_err *err)
{
    depot_json_set(head, "number", depot_json_int(arena, err->code));
    depot_json_set(head, "message", depot_json_str(arena, err->msg));
    if (err->hint[0] != '\0') {
        depot_json_set(head, "hint", depot_json_str(arena, err->hint));
    }
    if (err->id[0] != '\0') {
        depot_json_set(head, "id", depot_json_str(arena, err->id));
    }
    if (err->sqlstate[0] != '\0') {
        depot_json_set(head, "sqlstate", depot_json_str(arena, err->sqlstate));
    }
}

static void take_text(char *out, size_t size, const char *text)
{
    size_t n = text_utf8_cut(text, strlen(text), size - 1);

    memcpy(out, text, n);
    out[n] = '\0';
}

void wire_get_err(const depot_json *head, depot_err *out)
{
    int64_t number = depot_json_get_int(head, "number", DEPOT_E_UNKNOWN);

    *out = (depot_err){ .code = number > 0 && number <= INT16_MAX ? (depot_code)number : DEPOT_E_UNKNOWN };
    out->code = depot_code_by_id(depot_err_id(out)); /* a number that stands for nothing is UNKNOWN */
    take_text(out->msg, sizeof(out->msg), depot_json_get_str(head, "message", "an error without a message"));
    take_text(out->hint, sizeof(out->hint), depot_json_get_str(head, "hint", ""));
    take_text(out->id, sizeof(out->id), depot_json_get_str(head, "id", ""));
    take_text(out->sqlstate, sizeof(out->sqlstate), depot_json_get_str(head, "sqlstate", ""));
}

bool wire_receive(int fd, wire_reader *r, int64_t timeout_ms, wire_frame *out, depot_err *err)
{
    int64_t until = depot_now_ms() + timeout_ms;
    char    block[READ_BLOCK_BYTES];

    for (;;) {
        wire_state state = wire_reader_next(r, out, err);
        if (state != WIRE_MORE) {
            return state == WIRE_FRAME;
        }
        struct pollfd p = { .fd = fd, .events = POLLIN };
        int64_t       left = until - depot_now_ms();
        if (left <= 0) {
            return DEPOT_FAIL(err, TIMEOUT, "nothing came within %lld ms", (long long)timeout_ms);
        }
        if (poll(&p, 1, left > 1000 ? 1000 : (int)left) <= 0) {
            continue; /* a signal, or not yet: the deadline decides */
        }
        ssize_t n = read(fd, block, sizeof(block));
        if (n == 0) {
            return DEPOT_FAIL(err, IO, "the other side has closed the connection");
        }
        if (n < 0 && errno != EINTR && errno != EAGAIN) {
            return DEPOT_FAIL_ERRNO(err, "cannot read from the other side");
        }
        wire_reader_add(r, block, n > 0 ? (size_t)n : 0);
    }
}
