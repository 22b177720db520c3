#!/bin/sh
# Every fuzzer over its seeds and then for FUZZ_SECONDS (5) more: enough to see that it still runs and finds nothing near.
lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh"

command -v "${FUZZ_CC:-clang}" > /dev/null || skip_all "${FUZZ_CC:-clang} is not installed"
for source in "$DEPOT_SRC"/tests/fuzz/fuzz_*.c; do
    [ -f "$source" ] || skip_all "no fuzzer"
    name=$(basename "$source" .c)
    ok "$name finds nothing" sh "$DEPOT_SRC/tests/fuzz/run.sh" "$DEPOT_BUILD/fuzz/$name" "${FUZZ_SECONDS:-5}" || continue
    runs=$(printf '%s\n' "$out" | sed -n 's/^stat::number_of_executed_units: *//p')
    ok "$name really runs (${runs:-no} runs)" test "${runs:-0}" -ge 100
done
finish
