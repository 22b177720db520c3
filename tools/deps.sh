#!/bin/sh
# deps.sh - installs what is missing from Debian's packages, and says what and why. `make deps` calls it.
#   deps.sh [GROUP...]   groups: build run check coverage bench; without one: build run check
# Environment: DEPS=no only names what is missing. apt-get runs through sudo when we are not root.
set -u

# group, package, why; a fourth word is a path (pattern): when something is there, the package is not asked for
table() {
    cat <<'END'
build|gcc|C compiler|
build|libc6-dev|C library|
build|make|runs the Makefile|
build|pkg-config|finds the libraries|
build|libpq-dev|PostgreSQL client library|
build|liblua5.4-dev|Lua for handlers, hooks and runbooks|
build|libuv1-dev|event loop|
build|libjansson-dev|JSON|
build|libcurl4-openssl-dev|HTTP client|
build|zlib1g-dev|gzip|
build|libssl-dev|hashes, signatures, TLS|
build|libinih-dev|conf.d grammar|
build|libmicrohttpd-dev|HTTP server|
build|libisal-dev|fast gzip (optional)|
run|postgresql|the embedded PostgreSQL server; its own cluster "main" is not used|/usr/lib/postgresql/*/bin/initdb
check|python3|tests, free ports|
check|python3-jsonschema|validates openapi.json|
check|curl|a real HTTP client for the tests|
check|pgbouncer|tests of the pool behind a transaction pooler|
check|prometheus|promtool checks the metrics page|/usr/bin/promtool
check|shellcheck|lint of shell scripts|
check|lua-check|lint of Lua|
check|cppcheck|lint of C|
check|clang|second compiler, fuzzers|
check|clang-tidy|lint of C|
check|libclang-rt-14-dev|sanitizers and libFuzzer for clang|/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer*
check|codespell|lint of spelling|
coverage|gcovr|line and branch coverage|
bench|nginx|peer of the HTTP figures|
bench|wrk|load for the HTTP figures|
bench|npm|fetches the peers of the queue figures|/usr/bin/npm
bench|postgresql|pgbench, the floor of the queue figures|/usr/lib/postgresql/*/bin/pgbench
END
}

say() { printf 'deps: %s\n' "$*"; }
installed() { dpkg-query -W -f '${db:Status-Status}\n' "$1" 2> /dev/null | grep -qx installed; }
there() { # PATTERN
    for found in $1; do [ -e "$found" ] && return 0; done
    return 1
}

missing() { # GROUP...: lines "package|why"
    for group; do
        table | while IFS='|' read -r in package why path; do
            [ "$in" = "$group" ] || continue
            [ -z "$path" ] || ! there "$path" || continue
            installed "$package" || printf '%s|%s\n' "$package" "$why"
        done
    done
}

root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

install() { # PACKAGE...; RUNLEVEL keeps service scripts from starting anything where systemd does not run
    root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "$@"
}

[ $# -gt 0 ] || set -- build run check
for group; do
    table | grep -q "^$group|" || { say "no group is called $group (build, run, check, coverage, bench)" >&2; exit 2; }
done
if ! command -v dpkg-query > /dev/null 2>&1; then
    say "this system has no dpkg; install what stands for these by hand:"
    for group; do table | sed -n "s/^$group|\([^|]*\)|\([^|]*\)|.*/  \1 (\2)/p"; done
    exit 0
fi
list=$(missing "$@")
if [ -z "$list" ]; then
    say "nothing is missing ($*)"
    exit 0
fi
say "missing:"
printf '%s\n' "$list" | sed 's/\(.*\)|\(.*\)/  \1 (\2)/'
packages=$(printf '%s\n' "$list" | cut -d'|' -f1)
# shellcheck disable=SC2086  # package names are words
set -- $packages
if [ "${DEPS-yes}" = no ]; then
    say "DEPS=no: nothing is installed; by hand: apt-get install $*"
    exit 0
fi
if [ "$(id -u)" -ne 0 ] && ! command -v sudo > /dev/null 2>&1; then
    say "neither root nor sudo; as root: apt-get install $*" >&2
    exit 1
fi
needed() { # PACKAGE: nothing can be built or run without it; what the rest is for is skipped when it is absent
    table | grep -qE "^(build|run)\|$1\|" && [ "$1" != libisal-dev ]
}

if ! install "$@"; then
    say "trying again with fresh package lists"
    root apt-get -o DPkg::Lock::Timeout=300 update -q || say "the package lists could not be fetched"
    if ! install "$@"; then
        failed=no
        for package; do
            install "$package" && continue
            if needed "$package"; then failed=yes; fi
            say "could not install $package"
        done
        [ $failed = no ] || exit 1
    fi
fi
# The tests start servers of their own; what a package started a moment ago is only in the way.
if [ -d /run/systemd/system ]; then
    for package; do
        case $package in
        prometheus | pgbouncer | nginx) root systemctl stop "$package" && say "stopped the service $package (just installed)" ;;
        esac
    done
fi
exit 0
