#!/bin/sh
# A build outside the source tree by the second compiler, its installation below DESTDIR, and a plugin whose author has
# nothing but what was installed.
lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh"
unset CC CFLAGS CPPFLAGS LDFLAGS MAKEFLAGS MFLAGS MAKELEVEL
jobs=-j$(nproc)

mkdir "$work/src" "$work/out" "$work/root" || exit 1
tar -C "$DEPOT_SRC" --exclude=./build --exclude=./.git --exclude=./var -cf - . | tar -C "$work/src" -xf - || exit 1
tree() { (cd "$1" && find . ! -type d -printf '%p %s %T@\n' | sort); }
before=$(tree "$work/src")
cd "$work/out" || exit 1
if command -v clang > /dev/null; then compiler=clang; else compiler=gcc; fi
ok "configure in another folder, for $compiler" sh ../src/configure --prefix=/usr --libdir=/usr/lib/somewhere --enable-werror CC=$compiler
ok "make" make "$jobs"
is "$(tree "$work/src")" "$before" "the source tree is as it was"
try make
unlike "$out" '^  (CC|LD|SO) ' "a second make builds nothing"
is "$(cat build/tree 2>&1)" "$work/src" "build/tree says where the source is"

root=$work/root
ok "make install" make install DESTDIR="$root"
mode() { stat -c %a "$root/$1" 2>&1; }
for program in depotd depotctl; do
    [ ! -f "build/$program" ] || is "$(mode "usr/bin/$program")" 755 "$program"
done
for so in build/plugins/*.so; do
    [ ! -f "$so" ] || is "$(mode "usr/lib/somewhere/depotd/plugins/${so##*/}")" 644 "plugin ${so##*/}"
done
is "$(ls "$root/usr/include/depot")" "$(ls "$work/src/core/include/depot")" "every public header"
for dir in lua sql; do
    [ ! -d "$work/src/$dir" ] ||
        is "$(cd "$root/usr/share/depotd/$dir" && find . -type f | sort)" "$(cd "$work/src/$dir" && find . -type f ! -name '.*' | sort)" "everything of $dir/"
done
is "$(cd "$root/etc/depotd/conf.d" && ls)" "$(cd "$work/src" && find . -path './conf.d/*.ini' | sed 's,.*/,,' | sort)" "every file of conf.d"
ok "nothing else but what belongs there" sh -c "! find '$root' -type f | grep -v \
    -e '/usr/bin/depot' -e '/usr/lib/somewhere/depotd/plugins/' -e '/usr/lib/somewhere/pkgconfig/depotd.pc' \
    -e '/usr/include/depot/' -e '/usr/share/depotd/' -e '/etc/depotd/conf.d/' -e '/bash-completion/completions/depotctl'"
if [ -x "$root/usr/bin/depotd" ]; then
    ok "the installed depotd" "$root/usr/bin/depotd" --version
    like "$out" "$(cat "$work/src/VERSION")" "says its version"
fi

export PKG_CONFIG_PATH="$root/usr/lib/somewhere/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$root"
ok "pkg-config knows depotd" pkg-config --modversion depotd
is "$out" "$(cat "$work/src/VERSION")" "and its version"
is "$(env -u PKG_CONFIG_SYSROOT_DIR pkg-config --variable=plugindir depotd)" /usr/lib/somewhere/depotd/plugins "and where plugins go"
mkdir "$work/author" && cd "$work/author" || exit 1
if [ -d "$work/src/plugins/demo" ]; then
    cp "$work"/src/plugins/demo/*.[ch] . 2> /dev/null || cp "$work"/src/plugins/demo/*.c .
else
    printf '#include <depot/plugin.h>\nDEPOT_PLUGIN(demo) { .version = "1.0", .summary = "made by a test" };\n' > demo.c
fi
# PKG_CONFIG_SYSROOT_DIR stands before each folder that --cflags prints; a system folder is not printed
includes=$(pkg-config --cflags depotd)
# shellcheck disable=SC2086  # flags are words
ok "a plugin builds against what was installed" $compiler -std=gnu11 -Wall -Wextra -Werror -fPIC -fvisibility=hidden -shared \
    ${includes:--I$root/usr/include} -o demo.so ./*.c
ok "and is a good one" sh "$work/src/tools/check-plugin-symbols.sh" "$work/src" "$work/author/demo.so"

cd "$work/out" || exit 1
conf=$(find "$root/etc/depotd/conf.d" -name '*.ini' | sort | head -n 1)
if [ -n "$conf" ]; then
    echo '; changed by the operator' >> "$conf"
    ok "make install again" make install DESTDIR="$root"
    like "$(cat "$conf")" 'changed by the operator' "keeps a changed configuration file"
fi
ok "make uninstall" make uninstall DESTDIR="$root"
is "$(find "$root" ! -type d)" "$conf" "leaves nothing but the changed configuration file"
ok "make distclean" make distclean
is "$(ls -A "$work/out")" "" "empties the build folder"
finish
