#!/bin/sh
# check-layers.sh - what a file may know. In core/ a layer includes and calls only layers below it and itself; a plugin
# includes only depot/..., its own headers and those of libraries; the core includes nothing of a plugin. Some calls are
# banned everywhere. Prints file:line: fault, and ends with status 1 when there is one.
#   check-layers.sh SOURCE [BUILD]    with BUILD (a folder with obj/) the symbols that objects use are checked too
set -u

cd "$1" || exit 2
tools=$(cd "$(dirname "$0")" 2> /dev/null && pwd) || tools=$PWD/tools
[ -f "$tools/c-code.awk" ] || tools=$PWD/tools
build=${2-}
layers="base conf db run pg host api lua app main ctl" # lowest first; main and ctl are programs and see all but each other
banned='strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atoll|atof|system|popen|tmpnam|tempnam|mktemp|localtime|gmtime|asctime|ctime|strerror|alloca'
faults=$(mktemp "${TMPDIR:-/tmp}/depot-layers.XXXXXX") || exit 2
trap 'rm -f "$faults"' EXIT

files() { find "$@" -name '*.[ch]' 2> /dev/null | sort; }

check_includes() { # FILE OWN-LAYER (empty for a plugin)
    awk -v file="$1" -v own="$2" -v layers="$layers" '
        function fault(text) { printf "%s:%d: %s\n", file, FNR, text }
        BEGIN { n = split(layers, list, " "); for (i = 1; i <= n; i++) rank[list[i]] = i }
        /^[ \t]*#[ \t]*include[ \t]*"/ {
            name = $0
            sub(/^[^"]*"/, "", name)
            sub(/".*$/, "", name)
            if (name ~ /\.\./) { fault("an include must not climb: \"" name "\""); next }
            if (name ~ /^depot\//) next
            if (own == "") {
                if (name ~ /\//) fault("a plugin includes depot/..., its own headers and <library.h>, not \"" name "\"")
                next
            }
            if (name == "config.h") next
            layer = name
            sub(/\/.*$/, "", layer)
            if (!(layer in rank)) fault("\"" name "\" is in no layer of core/ (include \"layer/file.h\")")
            else if (rank[layer] > rank[own]) fault("layer " own " must not know layer " layer " (\"" name "\")")
            else if (layer == "main" && own == "ctl") fault("depotctl must not know the daemon (\"" name "\")")
        }' "$1"
}

check_code() { # FILE: banned words in code, and the rule for C functions that Lua calls
    awk -f "$tools/c-code.awk" "$1" | awk -v file="$1" -v banned="(^|[^A-Za-z0-9_>.])($banned)[ ]*\\\\(" '
        function fault(text) { printf "%s:%d: %s\n", file, NR, text }
        $0 ~ banned { fault("banned call: " $0) }
        /(^|[^A-Za-z0-9_])goto[ \t]/ { fault("goto") }
        # a Lua error jumps past cleanup attributes: a function that Lua calls owns nothing
        /^(static )?int [a-z_0-9]+\(lua_State \*[A-Za-z_]+\)$/ { called_by_lua = 1 }
        called_by_lua && /DEPOT_AUTO/ { fault("DEPOT_AUTO in a function that Lua calls: a Lua error would leak it") }
        /^}/ { called_by_lua = 0 }'
}

for dir in core/*/; do
    layer=$(basename "$dir")
    case " include $layers " in
    *" $layer "*) ;;
    *) echo "core/$layer: no layer of that name; tools/check-layers.sh has the list" ;;
    esac
    for file in $(files "$dir"); do
        [ "$layer" = include ] || check_includes "$file" "$layer"
        check_code "$file"
    done
done > "$faults"
for dir in plugins/*/ tests/plugins/; do
    for file in $(files "$dir"); do
        check_includes "$file" ""
        check_code "$file"
        sed -n 's/^ *# *include *"\([^/"]*\)".*/\1/p' "$file" | while read -r header; do
            [ -f "$dir$header" ] || echo "$file: \"$header\" is not a header of its own"
        done
    done
done >> "$faults"

# calls: a symbol that an object uses must be defined in its own layer or below
if [ -n "$build" ] && [ -d "$build/obj/core" ]; then
    find "$build/obj/core" -name '*.o' | sort | xargs nm -A -g 2> /dev/null | awk -v layers="$layers" '
        BEGIN { n = split(layers, list, " "); for (i = 1; i <= n; i++) rank[list[i]] = i }
        {
            object = $1
            sub(/:[^:]*$/, "", object)
            sub(/^.*\/obj\/core\//, "", object)
            layer = object
            sub(/\/.*$/, "", layer)
            if ($(NF - 1) == "U") { users[$NF] = users[$NF] " " object }
            else if (layer != "main" && layer != "ctl") defined[$NF] = layer
        }
        END {
            for (symbol in users) if (symbol in defined) {
                n = split(substr(users[symbol], 2), list, " ")
                for (i = 1; i <= n; i++) {
                    own = list[i]
                    sub(/\/.*$/, "", own)
                    if (rank[defined[symbol]] > rank[own])
                        printf "core/%s: calls %s, which is of the higher layer %s\n", list[i], symbol, defined[symbol]
                }
            }
        }' | sort >> "$faults"
fi

cat "$faults"
[ ! -s "$faults" ]
