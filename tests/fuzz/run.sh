#!/bin/sh
# run.sh - one fuzzer for some seconds, from the seeds in tests/fuzz/corpus/NAME and what earlier runs found. A crash
# leaves its input beside the fuzzer; run the fuzzer with that file as argument to see it again.
#   run.sh BUILD/fuzz/fuzz_NAME SECONDS
set -eu

fuzzer=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
name=${fuzzer##*/fuzz_}
seeds=$(cd "$(dirname "$0")" && pwd)/corpus/$name
found=${fuzzer%/*}/corpus/$name
mkdir -p "$found"
if [ -f "$seeds.dict" ]; then set -- "$@" "-dict=$seeds.dict"; fi
seconds=$2
shift 2
if [ -d "$seeds" ]; then set -- "$@" "$found" "$seeds"; else set -- "$@" "$found"; fi
exec "$fuzzer" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 \
    -artifact_prefix="${fuzzer%/*}/$name-" "$@"
