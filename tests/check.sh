#!/bin/sh
# check.sh - `make check`: runs the stages one after the other, goes on after a failing one, and adds them up. The last
# line is the total over all stages. A stage that cannot even be built counts as one failed point.
#   MAKE=make check.sh RESULTS-FOLDER -jN (or an empty word) STAGE...
set -u

results=$1 jobs=$2
shift 2
mkdir -p "$results" || exit 2
tally=$(cd "$results" && pwd)/tally
passed=0 failed=0 skipped=0 table=

for stage; do
    case $stage in lint) target=lint ;; *) target=check-$stage ;; esac
    printf '\n== %s\n' "$target"
    : > "$tally"
    started=$(date +%s)
    if DEPOT_TALLY=$tally ${MAKE:-make} --no-print-directory ${jobs:+"$jobs"} "$target"; then made=yes; else made=no; fi
    # shellcheck disable=SC2046  # three words
    set -- $(awk '{ p += $1; f += $2; s += $3 } END { print p + 0, f + 0, s + 0 }' "$tally")
    names=$(awk '{ for (i = 4; i <= NF; i++) printf " %s", $i }' "$tally")
    [ $made = yes ] || [ "$2" -gt 0 ] || { set -- "$1" 1 "$3" && names=" could not be made, see above"; }
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
    table="$table$(printf '  %-12s %4d s  %5d passed %4d failed %4d skipped%s' "$stage" $(($(date +%s) - started)) \
        "$1" "$2" "$3" "${names:+ :$names}")
"
done

printf '\n== check\n%s\n' "$table"
printf '%d passed, %d failed, %d skipped\n' $passed $failed $skipped
[ $failed -eq 0 ]
