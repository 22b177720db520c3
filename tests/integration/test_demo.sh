#!/bin/sh
# test-plain: yes, test-asan: no
# The demonstration on 600 files made for it, as whoever runs the tests and, when that is root, as a plain user as well.
# test-timeout: 300
lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh"

# a tree of its own: the script works below the tree that it lies in; a build of its own: another user must reach it
mkdir "$work/src" "$work/build" || exit 1
(cd "$DEPOT_SRC" && cp -R conf.d lua sql tools "$work/src/") || exit 1
cp -R "$DEPOT_BUILD/depotd" "$DEPOT_BUILD/depotctl" "$DEPOT_BUILD/plugins" "$work/build/" || exit 1
echo "$work/src" > "$work/build/tree"

python3 - "$work/input" <<'END' || exit 1
import gzip, os, struct, sys, zlib

def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes((x * y) % 256 for x in range(width)) for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))

os.makedirs(sys.argv[1] + "/a folder/\u00fcml\u00e4ut")
for n in range(600):
    kind = n % 6
    name, body = (("%03d.txt", b"line %d\n" % n * (n + 1)), ("%03d.png", png(10 + n, 20)), ("%03d.html", b"<p>%d</p>\n" % n),
                  ("%03d.svg", b"<svg>%d</svg>" % n), ("%03d.gz", gzip.compress(b"%d" % n, mtime=0)), ("same %03d.txt", b"equal\n"))[kind]
    folder = ("", "a folder/", "a folder/\u00fcml\u00e4ut/")[n % 3]
    with open("%s/%s%s" % (sys.argv[1], folder, name % n), "wb") as file:
        file.write(b"" if n == 5 else body)
END

demo() { # USER or nothing
    rm -rf "$work/src/var" && mkdir "$work/src/var" || return
    if [ -n "$1" ]; then
        chown "$1" "$work/src/var" && chmod 711 "$work/src" &&
            setpriv --reuid "$1" --regid "$1" --clear-groups env HOME=/ DEMO_INPUT="$work/input" BUILD="$work/build" sh "$work/src/tools/demo.sh"
    else
        DEMO_INPUT="$work/input" BUILD="$work/build" sh "$work/src/tools/demo.sh"
    fi
}

running() { grep -ls "$work/build/[d]epot" /proc/[0-9]*/cmdline; } # the bracket: not the command that looks

results() {
    like "$out" 'files recorded +600$' "600 files are recorded"
    like "$out" 'bytes in +[1-9][0-9,]+$' "bytes went in"
    like "$out" 'bytes stored +[1-9][0-9,]+ in 50[0-9] objects, all verified' "equal content is stored once"
    like "$out" 'duplicates found +(9[0-9]|100)$' "duplicates are counted"
    like "$out" 'retries +6 ' "every hundredth was tried again"
    like "$out" 'dead letters +3 ' "three dead letters, made on purpose"
    like "$out" '[0-9a-f-]{36} +[A-Z_]+' "and where they are"
    like "$out" 'a second' "and how fast it was"
    unlike "$out" 'demo: (failed|only|.* damaged)' "no fault"
    is "$(running | wc -l)" 0 "nothing runs on"
}

stop_what_is_left() { # what a demo that failed may have left
    for left in $(running | cut -d / -f 3); do kill -INT "$left"; done
}
at_exit stop_what_is_left

began=$(date +%s)
ok "the demonstration as $(id -un)" demo ""
note "$(printf '%s\n' "$out" | sed -n '/== summary/,$p')"
results
note "$(($(date +%s) - began)) s"
if [ "$(id -u)" -ne 0 ]; then
    skip "as a plain user" "that is what we are"
elif ! user=depot-t$$ || ! useradd --system --no-create-home --user-group "$user" 2> "$work/useradd"; then
    skip "as a plain user" "no user can be made: $(cat "$work/useradd")"
else
    at_exit "userdel $user > /dev/null 2>&1"
    ok "the demonstration as a plain user" demo "$user"
    results
    is "$(find "$work/src/var" ! -user "$user" | wc -l)" 0 "everything that it made is its own"
fi
finish
