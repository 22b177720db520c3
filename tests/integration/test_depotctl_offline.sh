#!/bin/sh
# test_depotctl_offline.sh - what depotctl does without a daemon: usage and its errors, conf.d, plugins, completion,
# generated documents, and how it says that nobody answers.
# shellcheck disable=SC1091,SC2154
lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh"

ctl=$DEPOT_BUILD/depotctl
[ -x "$ctl" ] || skip_all "depotctl is not built"
mkdir -p "$work/conf.d" "$work/state" "$work/lua/handlers"
printf '[plugin storage]\n[plugin http]\n' > "$work/conf.d/10-test.ini"
run() { "$ctl" --config "$work/conf.d" --state "$work/state" "$@"; }
# data and messages apart
apart() {
    "$@" > "$work/stdout" 2> "$work/stderr"
    status=$?
    stdout=$(cat "$work/stdout") stderr=$(cat "$work/stderr")
}

note "usage"
refused "no verb is a usage error" 2 run
like "$out" '^  status ' "and lists the verbs"
ok "--help is not an error" run --help
ok "--version names the version" run --version
is "$out" "depotctl $(cat "$DEPOT_SRC/VERSION")" "of the tree"
refused "an unknown verb" 2 run stauts
like "$out" '^depotctl: error: there is no verb "stauts"$' "is named"
like "$out" '^depotctl: hint: did you mean "status"\?$' "with the nearest one"
refused "a group is no verb" 2 run token
like "$out" '^  token create <name> ' "and its verbs are listed"
unlike "$out" '^  status ' "but no others"
ok "a group has help" run token --help
ok "help takes a verb" run help token create
like "$out" '--role viewer\|operator\|admin' "and shows choices"
refused "an unknown option before the verb" 2 run --josn status
like "$out" 'did you mean --json\?' "has a suggestion"
refused "an unknown flag behind it" 2 run config show --orgin
like "$out" 'did you mean --origin\?' "has one too"
refused "a missing argument" 2 run storage get
like "$out" 'usage: depotctl storage get <sha>' "shows the usage"
refused "a choice that is none" 2 run token create ci --role boss
like "$out" 'viewer, operator, admin' "lists those that there are"
refused "--url and --socket exclude each other" 2 run --url http://127.0.0.1:1 --socket /x status

note "nobody answers"
apart run status
is "$status" 3 "a daemon that is away is status 3"
is "$stdout" "" "nothing goes to standard output"
like "$stderr" "^depotctl: error: depotd does not answer at $work/state/depotd.sock: " "the socket is named"
like "$stderr" '^depotctl: hint: .*systemctl start depotd' "and how to start it"
apart run --json status
is "$status" 3 "the same with --json"
is "$(printf '%s' "$stderr" | python3 -c 'import json, sys; d = json.load(sys.stdin); print(d["code"], d["status"])')" \
    "UNAVAILABLE 503" "and a problem document on standard error"
refused "a URL where nobody listens" 3 run --url http://127.0.0.1:9 status
refused "a URL of another kind" 2 run --url ftp://127.0.0.1 status
refused "a token file that is not there" 1 run --url http://127.0.0.1:9 --token-file "$work/none" status
long=$work/state/$(printf '%0100d' 0)
mkdir -p "$long"
refused "a socket path longer than addresses hold" 3 run --socket "$long/depotd.sock" status
like "$out" 'does not answer' "is tried all the same"

note "conf.d"
ok "a good folder" run config check
like "$out" "^$work/conf.d: configuration is fine\$" "is fine"
cat > "$work/conf.d/20-bad.ini" <<'END'
[daemon]
thraeds = 4
queue = 3
END
refused "a bad one" 78 run config check
like "$out" "^$work/conf.d/20-bad.ini:2: error: .*thraeds" "names file and line"
like "$out" "^$work/conf.d/20-bad.ini:2: hint: .*threads" "with a hint"
like "$out" "^$work/conf.d/20-bad.ini:3: error: .*out of range" "and every problem in one run"
refused "as JSON" 78 run --json --quiet config check
is "$(printf '%s' "$out" | python3 -c 'import json, sys; d = json.load(sys.stdin); print(d["ok"], len(d["problems"]), d["problems"][0]["line"])')" \
    "False 2 2" "the same problems"
mkdir "$work/other"
ok "a folder by name" run config check "$work/other"
rm "$work/conf.d/20-bad.ini"
printf '[daemon]\nthreads = 4\n' > "$work/conf.d/20-good.ini"
ok "config show without the daemon" run --quiet config show daemon --origin
like "$out" "^threads = 4 +; $work/conf.d/20-good.ini:2\$" "tells where a value comes from"
like "$out" '^queue = 1024 +; default$' "or that it is the default"
DEPOT_NODE=here run --quiet config show daemon --origin > "$work/shown"
like "$(cat "$work/shown")" '^node = here +; env:DEPOT_NODE$' "or the environment"
ok "only what is set" run --quiet config show daemon --changed
is "$out" "[daemon]
threads = 4" "leaves the defaults out"
refused "a section that is not there" 1 run config show nosuchsection
ok "the schema" run --quiet config schema
is "$(printf '%s' "$out" | python3 -c 'import json, sys; print([s["section"] for s in json.load(sys.stdin)][0])')" "[daemon]" \
    "is JSON"

note "plugins"
ok "plugin list without the daemon" run --quiet plugin list
like "$out" '^storage +[0-9.]+ +enabled ' "shows what is enabled"
like "$out" '^demo +[0-9.]+ +disabled ' "and what is not"
ok "plugin show" run --quiet plugin show storage
like "$out" '^options:$' "shows its tables"
refused "plugin show of none" 1 run plugin show stroage
like "$out" 'did you mean storage' "has a suggestion"
ok "enable" run enable demo
like "$out" "^demo is enabled: $work/conf.d/50-demo.ini\$" "writes its sample"
like "$out" 'systemctl restart depotd' "and says what is to be done"
ok "what it wrote is good" run config check
run --quiet plugin list > "$work/list"
like "$(cat "$work/list")" '^demo +[0-9.]+ +enabled ' "now it is enabled"
ok "disable" run disable demo
is "$(ls "$work/conf.d/50-demo.ini.disabled")" "$work/conf.d/50-demo.ini.disabled" "renames the file"
ok "enable again" run enable demo
ok "takes the same file" test -f "$work/conf.d/50-demo.ini"
refused "enable of none" 1 run enable dmeo
like "$out" 'did you mean demo' "has a suggestion"

note "doctor and migrations"
refused "doctor without a daemon" 3 run doctor
like "$out" '^ok +configuration ' "looks at the files"
like "$out" '^fail +daemon ' "and misses the daemon"
like "$out" 'try: journalctl -u depotd' "with a command for it"
chmod 777 "$work/state"
refused "doctor" 3 run doctor
like "$out" '^fail +state folder .* has mode 0777$' "sees a state folder that anybody may write to"
like "$out" "try: chmod 0755 $work/state" "and says how to close it"
chmod 755 "$work/state"
refused "as JSON" 3 run --json doctor
is "$(printf '%s' "$out" | python3 -c 'import json, sys; d = json.load(sys.stdin); print(d["verdict"], {c["status"] for c in d["checks"]} <= {"ok", "warn", "fail"})')" \
    "fail True" "the same"
refused "migrate up without daemon and owner" 3 run migrate up
like "$out" 'owner_url is not set' "says what is missing"

note "completion"
run completion bash > "$work/completion"
offered() { # WORD...: what bash would offer for the last word
    bash -c '. "$0"; shift 0; COMP_WORDS=(depotctl "$@"); COMP_CWORD=$#; _depotctl; echo "${COMPREPLY[*]}"' "$work/completion" "$@"
}
if command -v bash > /dev/null; then
    is "$(offered 'conf')" "config" "a group"
    is "$(offered config '')" "check reload schema show" "its words"
    is "$(offered config show --or)" "--origin" "a flag"
    is "$(offered token create x --role '')" "viewer operator admin" "choices of a flag"
    is "$(offered --state /tmp --json tok)" "token" "options before the verb do not count"
    is "$(offered docs me)" "metrics" "choices of an argument"
else
    skip "completion" "no bash"
fi

note "documents"
for what in options routes lua metrics errors verbs events; do
    ok "docs $what" run docs $what
    like "$out" '^# ' "is a page"
done
# shellcheck disable=SC2016  # Markdown
like "$(run docs errors)" '^\| `NOT_FOUND` \| 404 \| 1 \| NO \|' "errors have their numbers"
ok "docs samples of one plugin" run docs samples --plugin storage
like "$out" '^\[plugin storage\]$' "is its file"
ok "docs types" run docs types
ok "docs man" run docs man
if command -v man > /dev/null; then
    is "$(run docs man | man --warnings -l - 2>&1 > /dev/null)" "" "and man has no complaint"
fi
refused "docs of none" 2 run docs metrisc
ok "all pages at once" run docs all --output "$work/reference"
if [ -d "$DEPOT_SRC/docs/reference" ]; then
    # the pages in the tree are those of all plugins of the tree
    ok "docs/reference is what the tables say (make docs)" diff -ru "$DEPOT_SRC/docs/reference" "$work/reference"
else
    skip "docs/reference" "not in the tree"
fi
finish
