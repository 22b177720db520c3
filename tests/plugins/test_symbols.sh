#!/bin/sh
# What the binaries export and use: the door between the core and plugins holds, and layers call only downwards.
lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh"

for file in "$DEPOT_BUILD"/plugins/*.so "$DEPOT_BUILD/depotd" "$DEPOT_BUILD/depotctl"; do
    [ ! -f "$file" ] || ok "${file##*/} uses and exports what it may" \
        sh "$DEPOT_SRC/tools/check-plugin-symbols.sh" "$DEPOT_SRC" "$file"
done
ok "no layer calls a higher one" sh "$DEPOT_SRC/tools/check-layers.sh" "$DEPOT_SRC" "$DEPOT_BUILD"
finish
