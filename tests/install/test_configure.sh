#!/bin/sh
# configure: what it refuses and how it says so, what it writes, and that make runs it when nobody has.
lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh"
unset CC CFLAGS CPPFLAGS LDFLAGS MAKEFLAGS MFLAGS MAKELEVEL
mkdir "$work/b" && cd "$work/b" || exit 1
configure=$DEPOT_SRC/configure

refused "an unknown option is refused" 1 sh "$configure" --with-pligins=all
like "$out" 'unknown option --with-pligins=all' "and named"
like "$out" 'did you mean --with-plugins=\.\.\.\?' "with the option that was meant"
refused "an unknown variable is refused" 1 sh "$configure" LIBPG_LIBS=-lpq
refused "an option without its value is refused" 1 sh "$configure" --prefix
like "$out" 'needs a value: --prefix=' "and says how to give one"
refused "a relative folder is refused" 1 sh "$configure" --prefix=here
refused "an unknown sanitizer is refused" 1 sh "$configure" --enable-sanitize=adress
ok "nothing was written" test ! -e build/config.mk

refused "a missing library stops it" 1 sh "$configure" LUA_LIBS=-lno-such-library UV_LIBS=-lnor-this
like "$out" 'liblua5.4-dev \(lua.h; LUA_CFLAGS, LUA_LIBS\)' "the package and the variables are named"
like "$out" 'libuv1-dev' "and those of the second missing one"
like "$out" 'make deps' "and the command that installs them"
like "$(cat build/config.log)" 'lno-such-library' "config.log has the command"
like "$(cat build/config.log)" 'cannot find -lnor-this' "and its output"
refused "an unknown plugin is refused" 1 sh "$configure" --with-plugins=no-such-plugin
like "$out" 'hint: there are:' "and those that exist are listed"
refused "a cross build needs the triplet's compiler" 1 sh "$configure" --host=m68k-atari-tos CC=
like "$out" 'm68k-atari-tos-gcc' "and names it"

ok "what dpkg passes is accepted" sh "$configure" --build=x86_64-linux-gnu --prefix=/usr "--includedir=\${prefix}/include" \
    "--mandir=\${prefix}/share/man" "--infodir=\${prefix}/share/info" --sysconfdir=/etc --localstatedir=/var \
    --disable-option-checking --disable-silent-rules "--libdir=\${prefix}/lib/x86_64-linux-gnu" --runstatedir=/run \
    --disable-maintainer-mode --disable-dependency-tracking --without-isal
like "$out" 'prefix +/usr ' "the summary names the prefix"
header=$(cat build/config.h)
like "$header" "^#define DEPOT_VERSION \"$(cat "$DEPOT_SRC/VERSION")\"" "config.h has the version of the file VERSION"
like "$header" '^#define DEPOT_SYSCONFDIR "/etc/depotd"$' "the configuration folder"
like "$header" '^#define DEPOT_STATEDIR "/var/lib/depotd"$' "the state folder"
like "$header" '^#define DEPOT_DATADIR "/usr/share/depotd"$' "the data folder"
like "$header" '^#define DEPOT_PLUGINDIR "/usr/lib/x86_64-linux-gnu/depotd/plugins"$' "the plugins' folder"
like "$header" '^#define HAVE_ISAL 0' "--without-isal holds"
ok "the Makefile is there" test -L Makefile

touch -d '1 hour ago' build/config.mk build/config.h
stamp=$(stat -c %Y build/config.mk build/config.h)
ok "an equal rerun" sh -c "cd '$work/b' && eval sh '$configure' \$(sed -n 's/^CONFIGURE_ARGS = //p' build/config.mk | sed 's/\\\$\\\$/\$/g')"
is "$(stat -c %Y build/config.mk build/config.h)" "$stamp" "leaves both files untouched"
ok "a private prefix" sh "$configure" --prefix=/opt/depot
like "$(cat build/config.h)" '^#define DEPOT_SYSCONFDIR "/opt/depot/etc/depotd"$' "keeps everything below it"

if command -v x86_64-linux-gnu-gcc > /dev/null; then
    ok "a cross build" sh "$configure" --host=x86_64-linux-gnu
    like "$(cat build/config.mk)" '^CC = x86_64-linux-gnu-gcc$' "uses the triplet's compiler"
else
    skip "a cross build" "no x86_64-linux-gnu-gcc"
fi

# a tree that nobody has configured
mkdir "$work/src" && tar -C "$DEPOT_SRC" --exclude=./build --exclude=./.git --exclude=./var -cf - . | tar -C "$work/src" -xf - &&
    cd "$work/src" || exit 1
object=build/obj/core/base/err.o
ok "make configures itself" make "$object"
ok "and builds" test -f "$object"
try make "$object" V=1
unlike "$out" '-c -o' "a second make builds nothing"
ok "another flag" make "$object" V=1 CFLAGS='-O1 -g'
like "$out" '-O1 .*-c -o' "builds again"
ok "and back" make "$object" V=1
like "$out" '-O2 .*-c -o' "builds again too"
sleep 1 && touch configure
ok "a newer configure" make "$object" V=1
like "$out" 'checking for' "runs again"
unlike "$out" '-c -o' "and as its answer is the same, nothing is built"
mkdir -p plugins/freshly && printf '%s\n' '/* freshly.c - a plugin of one file. */' '#include "depot/plugin.h"' \
    'DEPOT_PLUGIN(freshly) { .version = "1.0", .summary = "made by a test" };' > plugins/freshly/freshly.c
ok "a new folder below plugins/" make build/plugins/freshly.so
ok "becomes a plugin with no other edit" sh "$DEPOT_SRC/tools/check-plugin-symbols.sh" "$work/src" build/plugins/freshly.so
rm -rf plugins/freshly
ok "make distclean" make distclean
ok "takes everything away" test ! -e build
ok "make clean in a tree that is not configured" make clean
ok "does not configure it" test ! -e build/config.mk
ok "make help" make help
for target in all deps demo run check bench lint fuzz-NAME coverage install uninstall dist clean distclean help; do
    like "$out" "^  $target +[a-z]" "help lists $target"
done
finish
