#!/bin/sh
# What other people's checkers say. clang-tidy has been run by make, a process per file; its answers lie in build/tidy.
lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh"
cd "$DEPOT_SRC" || exit 1

# with TOOL NAME COMMAND...: a point, or a skipped one where the tool is not installed
with() {
    tool=$1 name=$2
    shift 2
    if command -v "$tool" > /dev/null 2>&1; then
        ok "$name" "$@"
    else
        skip "$name" "$tool is not installed"
    fi
}

tidy_is_content() {
    [ "$(tail -n 1 "$1")" = "status 0" ] || { grep -v '^status\|warnings\{0,1\} generated' "$1"; return 1; }
}

shell_scripts() {
    find tests tools .ci debian docker lua ! -type d \( -name '*.sh' -o -path .ci/run \) 2> /dev/null
}

list=$(shell_scripts | sort)
# shellcheck disable=SC2086  # a list of words
with shellcheck "shellcheck: configure and every script" shellcheck configure $list
with luacheck "luacheck: lua/" sh -c '[ ! -d lua ] || luacheck -q lua tests'
# tests/ holds words that are wrong on purpose
with codespell "codespell" codespell -q 3 -L nd,ue,te,inout,upto --skip './build,./.git,./var,./tests,*.lock,*.svg,*.min.js' .
with cppcheck "cppcheck" cppcheck -q -j 2 --std=c11 --language=c --enable=warning,portability --inline-suppr \
    --suppress=missingInclude --suppress=unknownMacro --suppress='*:*/depot/*.h' --error-exitcode=1 -D__GNUC__=12 -D__x86_64__=1 \
    -Icore -Icore/include core plugins
if command -v clang-tidy > /dev/null 2>&1; then
    for answer in $(find "$DEPOT_BUILD/tidy" -name '*.txt' 2> /dev/null | sort); do
        name=${answer#"$DEPOT_BUILD/tidy/"}
        [ ! -f "${name%.txt}.c" ] || ok "clang-tidy: ${name%.txt}.c" tidy_is_content "$answer"
    done
else
    skip "clang-tidy" "clang-tidy is not installed"
fi
finish
