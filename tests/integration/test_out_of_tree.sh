#!/bin/sh
# test-plain: yes, test-asan: no
# An installed depotd and a plugin whose author has nothing but what was installed: built with the flags of pkg-config, put into
# the plugins' folder, enabled, run. The program runs from the folders that configure was told, with no argument.
# test-timeout: 600
lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh"
unset CC CFLAGS CPPFLAGS LDFLAGS MAKEFLAGS MFLAGS MAKELEVEL
prefix=$work/opt
mkdir "$work/out" "$work/stage" "$work/author" && cd "$work/out" || exit 1
ok "configure for a prefix of its own" sh "$DEPOT_SRC/configure" --prefix="$prefix" CFLAGS=-O0
ok "make" make "-j$(nproc)"
ok "make install DESTDIR" make install DESTDIR="$work/stage"
ok "what was installed moves to its place" mv "$work/stage$prefix" "$prefix"
rm -rf "$work/out" # nothing of the build is there any more

# ---- docs/plugins.md, "Outside this repository"
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
cp "$DEPOT_SRC/plugins/demo/demo.c" "$work/author/" && cd "$work/author" || exit 1
sed -i 's/tutorial plugin: finds files/plugin of an author elsewhere: finds files/' demo.c
plugindir=$(pkg-config --variable=plugindir depotd)
confdir=$(pkg-config --variable=confdir depotd)
is "$plugindir" "$prefix/lib/depotd/plugins" "pkg-config knows where plugins go"
is "$confdir" "$prefix/etc/depotd/conf.d" "and configuration"
rm -f "$plugindir/demo.so"
# shellcheck disable=SC2046  # flags are words
ok "the demo plugin builds with the installed header alone" cc -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden \
    $(pkg-config --cflags depotd) -o demo.so demo.c
# shellcheck disable=SC2046  # several flags
unlike "$(cc $(pkg-config --cflags depotd) -E demo.c | grep '^# .*depot/')" "$DEPOT_SRC" "with none of this tree"
cp demo.so "$plugindir" && printf '[plugin demo]\ngreeting = from elsewhere\n' > "$confdir/50-demo.ini" || exit 1
ok "depotctl config check" "$prefix/bin/depotctl" config check

# ---- run
# shellcheck disable=SC2046  # two words
set -- $(python3 -c 'import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in held))')
export DEPOT_API_ADDR="127.0.0.1:$1" PGFLOW_ADMIN_ADDR="127.0.0.1:$2"
state=$prefix/var/lib/depotd
pid=
stop() {
    [ -n "$pid" ] || return 0
    kill "$pid"
    wait "$pid"
    tap_status=$?
    pid=
    return $tap_status
}
# shellcheck disable=SC2016  # expanded at exit
at_exit 'stop; [ $tap_failed -eq 0 ] || tail -n 40 "$work/log" | sed "s/^/# /"'
cd / && "$prefix/bin/depotd" < /dev/null > "$work/log" 2>&1 &
pid=$!
ctl() { "$prefix/bin/depotctl" "$@"; }
ok "the installed depotd becomes ready" eventually 60 ctl status
is "$(find "$state" -maxdepth 1 -name admin.token)" "$state/admin.token" "its state is where it was configured"
ok "depotctl plugin show demo" ctl plugin show demo
like "$out" 'of an author elsewhere' "shows the plugin that was built outside"
like "$out" "$plugindir/demo.so|1\\.0" "with file or version"
ok "its verb" ctl demo hello
like "$out" 'from elsewhere' "answers with its option"
ok "its task" ctl --json task run demo.scan --args "{\"place\": \"$work/author\"}"
like "$out" '"files": ?2' "runs"
ok "its migration was applied" sh -c "'$prefix/bin/depotctl' migrate status | grep -E 'demo.*(applied|yes|true)'"
curl -fsS -H "x-api-key: $(cat "$state/admin.token")" "http://$DEPOT_API_ADDR/openapi.json" > "$work/openapi.json"
like "$(cat "$work/openapi.json")" '/v1/demo' "its route is in /openapi.json"
ok "depotctl disable demo" ctl disable demo
is "$(find "$confdir" -name '*demo*' -exec basename {} \;)" 50-demo.ini.disabled "flips the file"
ok "it stops" stop
finish
