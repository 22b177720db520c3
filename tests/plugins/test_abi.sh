#!/bin/sh
# What plugins were promised still holds: layouts, constants and functions of every ABI minor (abi_1_N.txt, see abi.py).
# And the check itself can fail: headers that break the promise are refused.
lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh"
here=$DEPOT_SRC/tests/plugins
cc=$(sed -n 's/^CC = //p' "$DEPOT_BUILD/config.mk" 2> /dev/null)
abi() { python3 "$here/abi.py" "$1" "${cc:-cc}" "$here"/abi_1_*.txt; }

ok "the headers keep what each minor has promised" abi "$DEPOT_SRC/core/include"

# edit NAME SED-EXPRESSION HEADER: a copy of the headers in $work/NAME, changed
edit() {
    mkdir "$work/$1" && cp -r "$DEPOT_SRC/core/include/depot" "$work/$1/" && sed -i "$2" "$work/$1/depot/$3" || exit 1
    cmp -s "$work/$1/depot/$3" "$DEPOT_SRC/core/include/depot/$3" && { echo "nothing was changed by $2"; exit 1; }
}
edit moved '/^typedef struct depot_task_row {$/a\    uint32_t priority;' table.h
refused "a member in front of others is refused" 1 abi "$work/moved"
like "$out" 'no longer true: depot_task_row.name 0' "and named"
edit grown 's/^    char        msg\[320\];/    char        msg[640];/' base.h
refused "a struct that plugins allocate must not grow" 1 abi "$work/grown"
like "$out" 'no longer true: struct depot_err ' "and is named"
edit added '/^} depot_lua_fn;$/i\    const char *since;' table.h
refused "a member at the end without a new minor is refused" 1 abi "$work/added"
like "$out" 'depot_lua_fn.since [0-9]+ is not in it: raise DEPOT_ABI_MINOR' "and says what to do"
unlike "$out" 'no longer true' "but breaks no promise"
edit renumbered '/^DEPOT_ERROR(USAGE, /s/ 3, / 42, /' errors.def
refused "an error with another number is refused" 1 abi "$work/renumbered"
edit retyped 's/^DEPOT_API bool depot_emit(depot_ctx \*ctx, const char \*event, /DEPOT_API bool depot_emit(depot_ctx *ctx, /' plugin.h
refused "a function with other arguments is refused" 1 abi "$work/retyped"
like "$out" 'no longer true: function bool depot_emit' "and named"
finish
