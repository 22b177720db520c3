#!/bin/sh
# check-plugin-symbols.sh - the door between the core and plugins, seen in the binaries:
# a plugin uses only depot_* functions that a public header declares with DEPOT_API, and exports only its descriptor;
# a program exports every such function and no other depot_* name.
#   check-plugin-symbols.sh SOURCE FILE...    files are .so plugins or programs
set -u

source=$1
shift
api=$(mktemp "${TMPDIR:-/tmp}/depot-api.XXXXXX") || exit 2
trap 'rm -f "$api" "$api.has" "$api.extra"' EXIT
rc=0

# declarations may go over several lines; the macro that makes the descriptor is the one that is no declaration
for header in "$source"/core/include/depot/*.h; do
    awk -f "$source/tools/c-code.awk" "$header" | grep -v '^#\|\\$' | tr '\n' ' ' | tr ';' '\n' |
        sed -n 's/.*DEPOT_API  *//p' | sed 's/__attribute__ *((.*))//; s/ *(.*//; s/.*[ *]//'
done | grep '^depot_' | sort -u > "$api"
[ -s "$api" ] || { echo "no DEPOT_API function found in $source/core/include/depot"; exit 1; }

fault() { echo "$*"; rc=1; }

for file; do
    nm -D --defined-only "$file" | awk '{ sub(/@.*/, "", $NF); print $NF }' | sort -u > "$api.has"
    case $file in
    *.so)
        # names that begin with _ are the compiler's, the linker's or a sanitizer's
        extra=$(grep -vx 'depot_plugin_abi1' "$api.has" | grep -v '^_' | tr '\n' ' ')
        [ -z "$extra" ] || fault "$file: exports more than its descriptor: $extra"
        grep -qx 'depot_plugin_abi1' "$api.has" || fault "$file: exports no depot_plugin_abi1"
        nm -D --undefined-only "$file" | awk '$NF ~ /^depot_/ { print $NF }' | sort -u | comm -23 - "$api" > "$api.extra"
        [ ! -s "$api.extra" ] || fault "$file: uses what is no public function: $(tr '\n' ' ' < "$api.extra")"
        ;;
    *)
        grep '^depot_' "$api.has" | comm -13 - "$api" > "$api.extra"
        [ ! -s "$api.extra" ] || fault "$file: a header declares these, the program lacks them: $(tr '\n' ' ' < "$api.extra")"
        grep '^depot_' "$api.has" | comm -23 - "$api" > "$api.extra"
        [ ! -s "$api.extra" ] || fault "$file: exports what no public header declares: $(tr '\n' ' ' < "$api.extra")"
        ;;
    esac
done
exit $rc
