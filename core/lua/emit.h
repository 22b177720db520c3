/* emit.h - events of a worker: sent to the daemon, whose answer the emitting thread waits for. Its state is
 * one per process, as is the daemon's end. */
#ifndef LUA_EMIT_H
#define LUA_EMIT_H

#include "lua/channel.h"

/* Once, on the main thread, whose loop carries the answers: events cannot be emitted on it. */
void emit_open(channel *to_daemon);
/* For host_env.emit. Other threads only; blocks until the unit of work's deadline, at most 60 s. */
bool emit_event(const char *event, const depot_json *payload, depot_err *err) DEPOT_MUST_USE;
void emit_answer(uint64_t id, const depot_json *head); /* a WIRE_EMITTED came */

#endif
