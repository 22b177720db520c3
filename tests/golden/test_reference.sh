#!/bin/sh
# The generated documents in the tree are what depotctl writes now; `make docs` writes them anew.
lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh"
cd "$DEPOT_SRC" || exit 1

[ -d docs/reference ] || skip_all "no docs/reference yet"
same() { # COMMITTED GENERATED
    diff -ruN "$1" "$2" | head -n 40 > "$work/diff"
    cat "$work/diff"
    [ ! -s "$work/diff" ]
}

ok "depotctl docs all" "$DEPOT_BUILD/depotctl" docs all --output "$work/reference"
ok "docs/reference is up to date" same docs/reference "$work/reference"
if [ -f lua/types/depot.lua ]; then
    ok "depotctl docs types" sh -c "'$DEPOT_BUILD/depotctl' docs types > '$work/types.lua'"
    ok "lua/types/depot.lua is up to date" same lua/types/depot.lua "$work/types.lua"
fi
for sample in core:00-depotd http:10-http storage:20-storage queue:30-queue; do
    "$DEPOT_BUILD/depotctl" docs samples --plugin "${sample%%:*}" > "$work/sample.ini"
    ok "conf.d/${sample##*:}.ini has every option" same "conf.d/${sample##*:}.ini" "$work/sample.ini"
done
finish
