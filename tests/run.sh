#!/bin/sh
# run.sh - the one runner: runs TAP programs, prints a line for each, the output of those that failed, and as its last
# line "N passed, N failed, N skipped", counted over test points. What a program owes besides its points: an exit
# status that fits, a plan that fits, no sanitizer report, no process left behind; each lapse is a failed point.
#   run.sh [-j PARALLEL] [-t SECONDS per program] [-s FACTOR for slow builds] [-o FOLDER for outputs] PROGRAM...
# A script that needs longer says so in one of its first lines: "test-timeout: 900".
# Environment: DEPOT_TALLY=FILE gets the three numbers and the names of what failed appended, for a caller that sums up.
set -u

count() { # EXIT-STATUS < output: prints "passed failed skipped reason..."
    awk -v status="$1" '
        /^1\.\.[0-9]+/ { plans++; planned = substr($1, 4) + 0; if (planned == 0 && /# *[Ss][Kk][Ii][Pp]/) skipped_whole = 1 }
        /^not ok([ \t]|$)/ { failed++; next }
        /^ok([ \t]|$)/ { if ($0 ~ /[^\\]# *[Ss][Kk][Ii][Pp]/) skipped++; else passed++ }
        /^Bail out!/ { bailed = 1 }
        END {
            points = passed + failed + skipped
            if (skipped_whole && points == 0 && status == 0) { print 0, 0, 1; exit }
            if (status == 124 || status == 137) why = "stopped at the deadline"
            else if (bailed) why = "bailed out"
            else if (plans != 1) why = "died without a plan"
            else if (planned != points) why = "planned " planned " points, made " points
            else if (points == 0) why = "made no point"
            else if (status != 0 && failed == 0) why = "ended with status " status
            else if (status == 0 && failed > 0) why = "hid its failures by status 0"
            print passed + 0, failed + (why != "" && failed == 0), skipped + 0, why
        }'
}

leftovers() { # MARK: the processes that still carry it in their environment
    # shellcheck disable=SC2013  # paths of /proc have no spaces
    for environ in $(grep -lsz "^DEPOT_TEST_MARK=$1\$" /proc/[0-9]*/environ); do
        pid=${environ#/proc/}
        echo "${pid%/environ}"
    done
}

run_one() { # PROGRAM: writes $RUN_OUT/NAME.tap and NAME.result
    name=${1#"${DEPOT_SRC:-}"/}
    name=${name#build/}
    name=${name#tests/}
    base=$RUN_OUT/$(printf %s "$name" | tr / _)
    mark=$$-$(date +%s%N)
    rm -f "$base".*
    limit=$(case $1 in *.py | *.sh) sed -n '1,10s/.*test-timeout: *\([0-9][0-9]*\).*/\1/p' "$1" ;; esac)
    case $1 in
    *.py) set -- python3 "$1" ;;
    *.sh) set -- "$(sed -n '1s/.*bash.*/bash/p' "$1" | grep . || echo sh)" "$1" ;;
    */*) ;;
    *) set -- "./$1" ;;
    esac
    started=$(date +%s%N)
    # RUN_WRAP is a command to put in front, such as setarch -R
    # shellcheck disable=SC2086
    env DEPOT_TEST_MARK="$mark" PYTHONDONTWRITEBYTECODE=1 \
        ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_stack_use_after_return=1:strict_string_checks=1:log_path=$base.san" \
        LSAN_OPTIONS="${LSAN_OPTIONS:+$LSAN_OPTIONS:}print_suppressions=0" \
        UBSAN_OPTIONS="${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}print_stacktrace=1:log_path=$base.san" \
        TSAN_OPTIONS="${TSAN_OPTIONS:+$TSAN_OPTIONS:}second_deadlock_stack=1:log_path=$base.san" \
        timeout -k 20 $((${limit:-$RUN_SECONDS} * RUN_SLOW)) ${RUN_WRAP-} "$@" > "$base.tap" 2>&1 < /dev/null
    status=$?
    took=$((($(date +%s%N) - started) / 100000000))
    # shellcheck disable=SC2046  # the words are wanted
    set -- $(count $status < "$base.tap")
    passed=$1 failed=$2 skipped=$3
    shift 3
    why=$*
    for report in "$base".san.*; do
        [ -e "$report" ] || continue
        cat "$report" >> "$base.tap"
        failed=$((failed + 1)) why="${why:+$why; }a sanitizer reported"
    done
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        left=$(leftovers "$mark")
        [ -n "$left" ] || break
        sleep 0.3
    done
    for pid in $left; do
        printf 'left running: %s %s\n' "$pid" "$(tr '\0' ' ' < "/proc/$pid/cmdline")" >> "$base.tap"
        kill -KILL "$pid"
    done
    [ -z "$left" ] || failed=$((failed + 1)) why="${why:+$why; }left processes running"
    echo "$passed $failed $skipped" > "$base.result"
    printf '  %-4s %4d points %5d.%d s  %s%s%s\n' "$([ "$failed" = 0 ] && echo ok || echo FAIL)" \
        $((passed + failed + skipped)) $((took / 10)) $((took % 10)) "$name" \
        "$([ "$skipped" = 0 ] || echo " ($skipped skipped)")" "${why:+: $why}"
}

if [ "${1-}" = --one ]; then
    run_one "$2"
    exit 0
fi

jobs=1 seconds=300 slow=1 out=
while getopts j:t:s:o: option; do
    case $option in
    j) jobs=$OPTARG ;;
    t) seconds=$OPTARG ;;
    s) slow=$OPTARG ;;
    o) out=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
if [ -z "$out" ]; then
    out=$(mktemp -d "${TMPDIR:-/tmp}/depot-tests.XXXXXX") || exit 2
    trap 'rm -rf "$out"' EXIT
fi
mkdir -p "$out" && out=$(cd "$out" && pwd) && rm -f "$out"/*.tap "$out"/*.result "$out"/*.san.* || exit 2

export RUN_OUT="$out" RUN_SECONDS="$seconds" RUN_SLOW="$slow"
[ $# -eq 0 ] || printf '%s\0' "$@" | xargs -0 -n 1 -P "$jobs" sh "$0" --one

passed=0 failed=0 skipped=0 names=
for result in "$out"/*.result; do
    [ -e "$result" ] || continue
    read -r p f s < "$result"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    [ "$f" = 0 ] && continue
    printf '\n--- %s\n' "${result%.result}.tap"
    cat "${result%.result}.tap"
    names="$names $(basename "$result" .result)"
done
finished=$(find "$out" -maxdepth 1 -name '*.result' | wc -l)
if [ "$finished" -ne $# ]; then
    echo "$(($# - finished)) of $# programs gave no result"
    failed=$((failed + $# - finished))
fi
[ -z "$names" ] || printf '\nfailed:%s\n' "$names"
[ -z "${DEPOT_TALLY-}" ] || echo "$passed $failed $skipped$names" >> "$DEPOT_TALLY"
printf '%d passed, %d failed, %d skipped\n' $passed $failed $skipped
[ $failed -eq 0 ]
