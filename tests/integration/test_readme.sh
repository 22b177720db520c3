#!/bin/sh
# test-plain: yes, test-asan: no
# What README.md, docs/configuration.md and docs/operations.md tell a newcomer to type, typed.
lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh" && . "$lib/rig.sh"
rig_new
cp "$DEPOT_SRC"/conf.d/*.ini.disabled "$rig/conf.d/"
conf() { "$DEPOT_BUILD/depotctl" --config "$rig/conf.d" --state "$rig/state" "$@"; }

# ---- README, "Five minutes"
ok "start" rig_start
ok "depotctl status" ctl status
ok "depotctl plugin list" ctl plugin list
for name in http storage queue; do like "$out" "^$name +.*started" "it has $name"; done
ok "depotctl config show --origin" ctl config show --origin
like "$out" 'lease .*default' "every option with where it comes from"
ok "depotctl enable demo" conf enable demo
ok "renames the file" test -f "$rig/conf.d/90-demo.ini" -a ! -e "$rig/conf.d/90-demo.ini.disabled"
rig_stop
ok "after a restart" rig_start
ok "depotctl demo hello" ctl demo hello
like "$out" 'hello' "answers"

mkdir -p "$rig/lua/handlers"
sed -n '/^depot.job("greet") {$/,/^}$/p' "$DEPOT_SRC/README.md" > "$rig/lua/handlers/greet.lua"
ok "README has a handler" test -s "$rig/lua/handlers/greet.lua"
ok "depotctl config reload" ctl config reload
ok "depotctl job enqueue greet" ctl --json job enqueue greet --payload-json '{"name": "world"}'
body=$out
id=$(json 'd["job_id"]')
succeeded() { ctl job show "$id" | grep -q succeeded; }
ok "it runs" eventually 20 succeeded
ok "depotctl job list" ctl job list
like "$out" "$id.*greet|greet.*$id" "has it"
ok "depotctl job timeline" ctl job timeline "$id"
like "$out" 'succeeded' "tells how it went"
like "$(cat "$rig/depotd.log")" '"msg":"hello world"' "and its line is in the log"
ok "depotctl job explain" ctl job explain "$id"

body=$(curl -s "http://127.0.0.1:$admin_port/health")
is "$body" ok "curl admin /health"
body=$(curl -s -H "Authorization: Bearer $(cat "$rig/state/admin.token")" "http://127.0.0.1:$admin_port/jobs")
like "$body" "$id" "curl /jobs with the token"
body=$(curl -s --unix-socket "$rig/state/depotd.sock" http://localhost/openapi.json)
like "$body" '"/jobs/\{id\}/replay"' "curl --unix-socket /openapi.json"
ok "depotctl token create" ctl token create --name ci --role operator
ok "depotctl demo disable" conf disable demo
ok "renames it back" test -f "$rig/conf.d/90-demo.ini.disabled"
conf enable demo > /dev/null

# ---- docs/operations.md, "Looking at it"
try conf doctor
like "$out" '^ok +daemon +answers' "depotctl doctor ($status)"
unlike "$out" '^fail' "finds nothing wrong with a fresh daemon"
for verb in status "queue list" "schedule list" "worker list" "task list" "hook list" "migrate status" "plugin show queue"; do
    # shellcheck disable=SC2086  # words
    ok "depotctl $verb" ctl $verb
done
for verb in "queue list" "schedule list" "worker list" "job list" "plugin list" status "config schema"; do
    # shellcheck disable=SC2086
    ctl --json $verb > "$work/json" 2>&1
    ok "depotctl --json $verb is JSON" python3 -m json.tool "$work/json"
done
refused "a verb that there is not" 2 ctl jbo list
like "$out" 'did you mean|depotctl help' "with what to try"
refused "a job that there is not" 1 ctl job show 00000000-0000-7000-8000-000000000000

# ---- docs/configuration.md
printf '[daemon]\ndrain_timeout = 7s\n' > "$rig/conf.d/50-a.ini"
printf '[daemon]\ndrain_timeout = 8s\n' > "$rig/conf.d/60-b.ini"
refused "the same option in two files" 78 conf config check
like "$out" '60-b.ini:2: error: .*' "names the second place"
like "$out" '50-a.ini:2' "and the first"
printf '[daemon]\noverride = yes\ndrain_timeout = 8s\n' > "$rig/conf.d/60-b.ini"
ok "override = yes may set it again" conf config check
printf '[daemon]\ndrain_timeout = 9s\n' > "$rig/conf.d/99-local.ini"
ok "so may 99-local.ini" conf config check
ok "in force after" ctl config reload
shown() { ctl --json config show --origin > "$work/json" && body=$(cat "$work/json") &&
    json "[(r['value'], r['origin']) for r in (d['items'] if isinstance(d, dict) else d) if r['section'] == '$1' and r['option'] == '$2']"; }
like "$(shown '[daemon]' drain_timeout; shown daemon drain_timeout)" '9s.*99-local.ini:2' "the last one, from where it was set"
mkdir -p "$rig/state/secrets" && echo from-a-secret > "$rig/state/secrets/greeting" && chmod 600 "$rig/state/secrets/greeting" && echo from-a-file > "$work/greeting"
greets() { ctl config reload > /dev/null && ctl demo hello; }
for value in "\${file:$work/greeting}=from-a-file" "\${secret:greeting}=from-a-secret" "\${env:GREETING}=from-the-environment" "\$\${x}=\${x}"; do
    printf '[plugin demo]\ngreeting = %s\n' "${value%%=*}" > "$rig/conf.d/95-greet.ini"
    if [ "${value%%=*}" = "\${env:GREETING}" ]; then
        rig_stop
        export GREETING=from-the-environment # of the daemon's process: known from its next start on
        # shellcheck disable=SC2119
        rig_start
    fi
    ok "a value of ${value%%=*}" greets
    like "$out" "$(printf %s "${value#*=}" | sed 's/[$]/\\$/g; s/[{}]/\\&/g')" "is ${value#*=}"
done
printf '[plugin demo]\ngreeting = a ; b # c = d\n' > "$rig/conf.d/95-greet.ini"
ok "a value with ; # and =" greets
like "$out" 'a ; b # c = d' "is taken as it is"
rm "$rig/conf.d/95-greet.ini"
ok "it stops" rig_stop
unlike "$(cat "$rig/depotd.log")" '"level":"error"' "and the log has no error"
finish
