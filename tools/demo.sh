#!/bin/sh
# demo.sh - the main job on real input: starts depotd on an embedded PostgreSQL with the shipped conf.d, lets it find, store and
# examine a folder of files, prints what happened. `make demo` calls it after building. Everything it makes is below var/demo.
#   DEMO_INPUT=DIR   files to take instead of the system's documentation and icons
#   DEMO_KEEP=yes    leave depotd running at the end
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build}
top=$PWD/var/demo
state=$top/state
conf=$top/conf.d
limit=${DEMO_LIMIT:-3000}

say() { printf '\n== %s\n' "$*"; }
ctl() { "$build/depotctl" --config "$conf" --state "$state" "$@"; }
field() { python3 -c 'import json,sys; print(json.load(sys.stdin)'"$1"')'; }

case ${DEMO_INPUT:-/} in
*[[:space:],]*) echo "demo: DEMO_INPUT: the name of the folder may hold no blank and no comma: $DEMO_INPUT" >&2; exit 2 ;;
esac
[ -d "${DEMO_INPUT:-/}" ] || { echo "demo: DEMO_INPUT: there is no folder $DEMO_INPUT" >&2; exit 2; }

stop_daemon() {
    if [ -n "${pid:-}" ]; then
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    fi
    pid=
}
finish() {
    status=$?
    if [ "${DEMO_KEEP:-no}" != yes ] || [ "$status" -ne 0 ]; then stop_daemon; fi
    if [ "$status" -ne 0 ]; then
        printf '\ndemo: failed; the last lines of %s/depotd.log:\n' "$top" >&2
        tail -n 25 "$top/depotd.log" >&2 2>/dev/null || true
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# an unfinished run before this one: its daemon goes, its files go
if [ -f "$state/depotd.lock" ]; then
    old=$(cat "$state/depotd.lock" 2>/dev/null || true)
    case $(readlink "/proc/${old:-none}/exe" 2>/dev/null) in */depotd*) kill "$old" 2>/dev/null || true ;; esac
    n=0
    while [ -n "$old" ] && kill -0 "$old" 2>/dev/null && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.1; done
fi
# the cluster of a daemon that was killed may still run; the next start takes it over, but here the folder goes too
server=$(head -n 1 "$state/postgres/data/postmaster.pid" 2>/dev/null || true)
# the number in a file that was left behind may belong to somebody else by now
case $(readlink "/proc/${server:-none}/exe" 2>/dev/null) in */postgres*) kill -INT "$server" 2>/dev/null && sleep 2 ;; esac
cluster=$(readlink -f "$state/postgres" 2>/dev/null || true)
rm -rf "$top"
case $cluster in /var/lib/depotd-embedded/?*) rm -rf "$cluster" ;; esac
mkdir -p "$conf" "$state" "$top/input"

if [ -n "${DEMO_INPUT:-}" ]; then
    inputs=$(cd "$DEMO_INPUT" && pwd)
else
    inputs=
    for d in /usr/share/doc /usr/share/icons /usr/share/pixmaps /usr/share/common-licenses; do
        [ -d "$d" ] && inputs="$inputs $d"
    done
fi

say "configuration: the shipped conf.d, with the demo plugin enabled"
cp conf.d/*.ini conf.d/*.ini.disabled "$conf/" 2>/dev/null || true
ctl enable demo
ctl config check

say "start"
DEPOT_IMPORT=$(echo "$inputs $top/input" | sed 's/^ *//; s/  */,/g')
DEPOT_API_ADDR=${DEPOT_API_ADDR:-127.0.0.1:0}
PGFLOW_ADMIN_ADDR=${PGFLOW_ADMIN_ADDR:-127.0.0.1:0}
export DEPOT_IMPORT DEPOT_API_ADDR PGFLOW_ADMIN_ADDR
"$build/depotd" --config "$conf" --state "$state" --foreground > "$top/depotd.log" 2>&1 &
pid=$!
n=0
until ctl status > /dev/null 2>&1; do
    n=$((n + 1))
    if [ $n -ge 600 ] || ! kill -0 "$pid" 2>/dev/null; then
        echo "depotd did not become ready" >&2
        exit 1
    fi
    sleep 0.1
done
ctl status

say "find files and emit an event for each; the hook in 90-demo.ini makes each a job"
began=$(date +%s.%N)
left=$limit
# shellcheck disable=SC2086  # a list of folders, without blanks in their names
set -- $inputs
for dir; do
    # an equal share of what is left, so that all kinds of files come in
    sed -i "s/^;*limit = .*/limit = $(((left + $# - 1) / $#))/" "$conf/90-demo.ini"
    shift
    ctl --json config reload > /dev/null
    found=$(ctl --json task run demo.scan --args "{\"place\": \"$dir\"}" | field '["result"]["files"]')
    printf '%8d files below %s\n' "$found" "$dir"
    left=$((left - found))
done
# three failures made on purpose: files that are not there
for i in 1 2 3; do
    ctl --json event emit demo.file_found "{\"path\": \"$top/input/not-there-$i\", \"n\": $i}" > /dev/null
done

say "wait until every job has ended"
n=0
while :; do
    rest=$(ctl --json queue list | python3 -c 'import json,sys
q = json.load(sys.stdin); q = q["items"] if isinstance(q, dict) else q
print(sum(r["queued"] + r["running"] for r in q))')
    [ "$rest" -eq 0 ] && break
    n=$((n + 1))
    [ $n -lt 1200 ] || { echo "jobs are still waiting: $rest" >&2; exit 1; }
    [ -t 1 ] && printf '\r%8d jobs to go ' "$rest"
    sleep 0.25
done
[ -t 1 ] && printf '\r%30s\r' ''
ended=$(date +%s.%N)

say "report, run by hand; the schedule demo-report runs it four times a minute"
ctl --json schedule run demo-report > "$top/report.json"
ctl schedule list

say "every stored object, read against its name"
ctl --json task run storage.scrub > "$top/scrub.json"
ctl --json queue list > "$top/queues.json"
ctl --json queue dlq > "$top/dlq.json"
python3 tools/demo_summary.py "$top" "$began" "$ended"
if [ "${DEMO_KEEP:-no}" = yes ]; then
    say "look around: $build/depotctl --config $conf --state $state job list   (log: $top/depotd.log)"
else
    say "depotd is stopped; DEMO_KEEP=yes make demo leaves it running to look around   (log: $top/depotd.log)"
fi
