/* fuzz_wire.c - any bytes as frames: in one piece or byte by byte they are read alike, and what was read can be written. */
#include <stdlib.h>
#include <string.h>

#include "lua/outcome.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a worker says that scripts came to: whatever it is, the daemon hears of each place once, and of none that it has not given away. */
static void read_outcome(depot_arena *arena, const depot_json *head, const char *text, size_t n)
{
    enum { FIRST = 3, PLACES = 5 };
    bool                seen[PLACES] = { false };
    depot_script_result one;
    depot_range_result  all;
    depot_err           err = { 0 };

    outcome_read(arena, head, text, n, &one);
    if (!outcome_range_read(arena, head, text, &(outcome_range){ FIRST, PLACES, 1 }, &all, &err)) {
        if (err.code != DEPOT_E_MALFORMED) {
            abort();
        }
        return;
    }
    for (size_t i = 0; i < all.n_ended + all.n_going; i++) {
        int64_t place = i < all.n_ended ? all.ended[i].place : all.going[i - all.n_ended].place;
        if (place < FIRST || place >= FIRST + all.begun || all.begun > PLACES || seen[place - FIRST]) {
            abort();
        }
        seen[place - FIRST] = true;
    }
}

/* All frames as text, until more bytes are wanted or a frame is bad. */
static void read_all(wire_reader *r, depot_buf *out, bool *bad)
{
    wire_frame frame;
    depot_err  err = { 0 };
    wire_state state;

    while (!*bad && (state = wire_reader_next(r, &frame, &err)) != WIRE_MORE) {
        if (state == WIRE_BAD) {
            if (err.code != DEPOT_E_MALFORMED) {
                abort();
            }
            *bad = true;
            return;
        }
        DEPOT_AUTO(depot_arena_drop) depot_arena *arena = depot_arena_new();
        const depot_json                         *head;
        const char                               *text;
        size_t                                    n;
        wire_put(out, frame.type, frame.id, frame.payload, frame.n);
        if (wire_parse(arena, &frame, &head, &text, &n, &err)) {
            depot_err found;
            wire_get_err(head, &found);
            read_outcome(arena, head, text, n);
            depot_buf_add(out, text, n);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DEPOT_AUTO(depot_buf_free) depot_buf     whole = { 0 };
    DEPOT_AUTO(depot_buf_free) depot_buf     pieces = { 0 };
    DEPOT_AUTO(wire_reader_free) wire_reader a = { 0 };
    DEPOT_AUTO(wire_reader_free) wire_reader b = { 0 };
    bool                                     bad_a = false, bad_b = false;

    wire_reader_add(&a, data, size);
    read_all(&a, &whole, &bad_a);
    for (size_t i = 0; i < size && !bad_b; i++) {
        wire_reader_add(&b, data + i, 1);
        read_all(&b, &pieces, &bad_b);
    }
    if (bad_a != bad_b || whole.len != pieces.len ||
        (whole.len > 0 && memcmp(whole.data, pieces.data, whole.len) != 0)) {
        abort();
    }
    return 0;
}
