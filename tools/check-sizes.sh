#!/bin/sh
# check-sizes.sh - files of at most 600 lines, functions of at most 80, nesting of at most 4. Prints what is larger and
# ends with status 1 when something is; with --stats the distribution instead.
#   check-sizes.sh [--stats] SOURCE
set -u

stats=no
[ "$1" != --stats ] || { stats=yes; shift; }
cd "$1" || exit 2
found=$(mktemp "${TMPDIR:-/tmp}/depot-sizes.XXXXXX") || exit 2
trap 'rm -f "$found"' EXIT

# A function begins at a brace in column 0 below a line that ends in ')', and ends at a brace in column 0.
functions() { # FILE: lines "FILE LINE LINES NESTING NAME"
    awk -f tools/c-code.awk "$1" | awk -v file="$1" '
        /^{/ && signature != "" { start = NR; depth = deepest = level = 0; name = signature }
        start && /^}/ { print file, start, NR - start + 1, deepest, name; start = 0 }
        start {
            line = $0
            while (match(line, /[{}]/)) {
                before = substr(line, 1, RSTART - 1)
                if (substr(line, RSTART, 1) == "{") {
                    # only blocks of statements count, not initialisers
                    block[++level] = (before ~ /(\) |else |do )$/ || (before ~ /^[ \t]*$/ && NR > start))
                    depth += block[level]
                    if (depth > deepest) deepest = depth
                } else if (level > 0) {
                    depth -= block[level--]
                }
                line = substr(line, RSTART + 1)
            }
        }
        /^[A-Za-z].*\(/ { head = $0; sub(/\(.*/, "", head); sub(/.*[ *]/, "", head) }
        { signature = ($0 ~ /\)$/) ? head : (NF == 0 ? "" : signature) }'
}

c_files=$(find core plugins tests -name '*.[ch]' 2> /dev/null | sort)
if [ $stats = yes ]; then
    for file in $c_files; do functions "$file"; done | sort -n -k3 | awk '
        { n++; lines[n] = $3; total += $3 }
        END { if (n) printf "functions %d, lines p50 %d p95 %d longest %d\n", n, lines[int(n * 0.5) + 1], lines[int(n * 0.95) + 1], lines[n] }'
    for file in $c_files; do wc -l < "$file"; done | sort -n | awk '
        { n++; lines[n] = $1; total += $1 }
        END { if (n) printf "files %d, lines %d, p50 %d p95 %d longest %d\n", n, total, lines[int(n * 0.5) + 1], lines[int(n * 0.95) + 1], lines[n] }'
    exit 0
fi

for file in $c_files $(find core plugins lua sql tools tests \( -name '*.lua' -o -name '*.sql' -o -name '*.sh' -o -name '*.py' -o -name '*.js' \) \
    2> /dev/null | sort); do
    lines=$(wc -l < "$file")
    [ "$lines" -le 600 ] || echo "$file: $lines lines, at most 600" >> "$found"
done
for file in $c_files; do functions "$file"; done | awk '
    $3 > 80 { printf "%s:%d: function %s has %d lines, at most 80\n", $1, $2, $5, $3 }
    $4 > 4 { printf "%s:%d: function %s nests %d deep, at most 4\n", $1, $2, $5, $4 }' >> "$found"
cat "$found"
[ ! -s "$found" ]
