# shellcheck shell=sh
# sh-tap.sh - TAP for shell tests. A test begins with
#     lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh"
# and ends with `finish`. Without finish there is no plan, so a test that dies early fails.
# $work is a fresh folder that goes away with the test; DEPOT_SRC and DEPOT_BUILD name the source and the build folder.
set -u

DEPOT_SRC=${DEPOT_SRC:-$(cd "$lib/../.." && pwd)}
DEPOT_BUILD=${DEPOT_BUILD:-$DEPOT_SRC/build}
export DEPOT_SRC DEPOT_BUILD
tap_count=0 tap_failed=0 tap_at_exit=''
out='' status=0 # what the last `try` left

# comments; of a long text its end
note() { printf '%s\n' "$*" | tail -n 100 | sed 's/^/# /'; }

tap_point() { # STATUS NAME
    tap_count=$((tap_count + 1))
    if [ "$1" -eq 0 ]; then
        printf 'ok %d - %s\n' $tap_count "$(printf %s "$2" | tr '\n' ' ' | sed 's/#/\\#/g')"
        return 0
    fi
    tap_failed=$((tap_failed + 1))
    printf 'not ok %d - %s\n' $tap_count "$(printf %s "$2" | tr '\n' ' ' | sed 's/#/\\#/g')"
    return 1
}

# try COMMAND...: runs it, leaves its output (both streams) in $out and its exit status in $status. In this shell, so that
# a function may set variables and start background processes that it can wait for.
try() {
    "$@" > "$work/.out" 2>&1
    status=$?
    out=$(cat "$work/.out")
    return $status
}

# ok NAME COMMAND...: the command succeeds; its output is shown when it does not
ok() {
    tap_name=$1
    shift
    try "$@"
    tap_point $status "$tap_name" || { note "status $status of: $*"; note "$out"; return 1; }
}

# refused NAME STATUS COMMAND...: the command ends with exactly this status
refused() {
    tap_name=$1 tap_want=$2
    shift 2
    try "$@"
    [ "$status" -eq "$tap_want" ]
    tap_point $? "$tap_name" || { note "status $status, not $tap_want, of: $*"; note "$out"; return 1; }
}

is() { # GOT WANT NAME
    [ "$1" = "$2" ]
    tap_point $? "$3" || { note "got:  $1"; note "want: $2"; return 1; }
}

like() { # TEXT PATTERN NAME: a line of the text matches the extended regular expression
    printf '%s\n' "$1" | grep -qE -e "$2"
    tap_point $? "$3" || { note "no match for $2 in:"; note "$1"; return 1; }
}

unlike() { # TEXT PATTERN NAME
    ! printf '%s\n' "$1" | grep -qE -e "$2"
    tap_point $? "$3" || { note "unwanted match for $2 in:"; note "$1"; return 1; }
}

skip() { # NAME WHY
    tap_count=$((tap_count + 1))
    printf 'ok %d - %s # SKIP %s\n' $tap_count "$1" "$2"
}

skip_all() { # WHY: ends the test
    printf '1..0 # SKIP %s\n' "$1"
    exit 0
}

# eventually SECONDS COMMAND...: tries again until the command succeeds or the time is over
eventually() {
    tap_deadline=$(($(date +%s) + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        if [ "$(date +%s)" -ge $tap_deadline ]; then
            "$@" # once more, with its output
            return
        fi
        sleep 0.1
    done
}

# at_exit COMMAND: run when the test ends in whatever way, last one first
at_exit() {
    tap_at_exit="$1
$tap_at_exit"
}

tap_exit() {
    tap_status=$?
    trap - EXIT
    cd /
    eval "$tap_at_exit"
    rm -rf "$work"
    exit $tap_status
}

# finish: prints the plan and ends the test
finish() {
    echo "1..$tap_count"
    [ $tap_failed -eq 0 ] && [ $tap_count -gt 0 ]
    exit
}

trap tap_exit EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
work=$(mktemp -d "${TMPDIR:-/tmp}/depot-test.XXXXXX") || exit 1
# a service user of PostgreSQL must be able to pass
chmod 755 "$work"
