#!/bin/sh
# queue.sh - the queue beside graphile-worker, pg-boss and bare SQL, on one durable PostgreSQL. `make bench-queue`; BENCH_QUICK=1 is short.
# The peers come from the npm registry, as their lock file pins them, into build/bench/queue-peers; none of their scripts is run.
here=$(cd "$(dirname "$0")" && pwd)
peers=${DEPOT_BUILD:-$here/../../build}/bench/queue-peers
for tool in npm psql pgbench wrk; do
    command -v $tool > /dev/null 2>&1 || { echo "bench queue: $tool is not installed: make deps-bench" >&2; exit 1; }
done
mkdir -p "$peers" && cp "$here"/queue-peers/* "$peers" || exit
if ! cmp -s "$peers/package-lock.json" "$peers/installed"; then
    (cd "$peers" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) || exit
    cp "$peers/package-lock.json" "$peers/installed" || exit
fi
exec python3 "$here/queue_bench.py"
