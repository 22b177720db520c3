#!/bin/sh
# test_depotctl.sh - depotctl against a running daemon: over its socket and over HTTP with a token, data both ways,
# progress and questions on a terminal, and what it says when the daemon refuses or goes away.
# shellcheck disable=SC1091,SC2154
lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh" && . "$lib/rig.sh"

[ -x "$DEPOT_BUILD/depotctl" ] || skip_all "depotctl is not built"
mkdir "$work/none"
rig_new "$work/none"
rig_conf 10-test.ini << 'END'
[plugin http]
[plugin storage]
[schedule sweep-by-hand]
cron = @yearly
run = storage.sweep
END
run() { ctl --config "$rig/conf.d" "$@"; }
field() { printf '%s' "$out" | python3 -c 'import json, sys; print(eval(sys.argv[1], {"d": json.load(sys.stdin)}))' "$1"; }
on_terminal() { script -qec "$*" /dev/null < "${input:-/dev/null}"; }
ctl_line="$DEPOT_BUILD/depotctl --state $rig/state --config $rig/conf.d"
ok "the daemon starts" rig_start || finish

note "what it tells of itself"
ok "status" run status
like "$out" '^ready: +yes$' "it is ready"
like "$out" '^uptime_ms: +[0-9.]+m?s' "durations are for people"
ok "status as JSON" run --json status
is "$(field 'd["ready"], d["database"]')" "(True, True)" "is the reply as it is"
ok "behind the verb too" run status --json
is "$(field 'd["ready"]')" "True" "--json stands where one likes"
ok "whoami" run whoami
like "$out" "^actor: +uid:$(id -u)\$" "the socket knows the caller"
ok "plugin list" run --quiet plugin list
like "$out" '^storage +[0-9.]+ +started ' "what runs"
like "$out" '^demo +[0-9.]+ +disabled ' "and what could"
ok "config show" run config show schedule --origin
like "$out" "^cron = @yearly +; $rig/conf.d/10-test.ini:4\$" "the daemon's configuration"
ok "migrate status" run migrate status
like "$out" '^core +1 +[a-z_]+ +applied ' "the core's first"
ok "migrate up --dry-run" run --quiet migrate up --dry-run
is "$out" "(none)" "nothing is pending"
ok "migrate up" run migrate up
ok "schedule list" run schedule list
like "$out" '^sweep-by-hand ' "shows the schedule"
ok "schedule run" run schedule run sweep-by-hand
ok "task run" run --json task run storage.sweep --args '{}'
is "$(field 'd["status"]')" "ok" "runs it"
ok "config reload" run config reload
ok "event emit" run event emit file.added '{"path": "/x"}'
printf '{"path": "/y"}' > "$work/payload"
ok "with a file" run event emit file.added "@$work/payload"
ok "from standard input" sh -c "$ctl_line event emit file.added - < $work/payload"
refused "bad JSON" 2 run event emit file.added '{'

note "doctor"
try run doctor
[ "$status" -le 1 ]
tap_point $? "nothing fails on a fresh daemon" || note "$out"
for check in database 'database role' checksums 'WAL archiving' 'database clock' migrations tokens schedules; do
    like "$out" "^ok +$check +" "$check is fine"
done

note "tokens"
ok "token create" run --json token create ci --role viewer
field 'd["token"]' > "$work/token"
chmod 600 "$work/token"
like "$(cat "$work/token")" '^dpt_' "gives the token, this once"
ok "token list" run token list
like "$out" 'ci +.*viewer' "shows it"
unlike "$out" "$(cut -c18- "$work/token")" "without the secret"
url="--url http://127.0.0.1:$api_port --token-file $work/token"
# shellcheck disable=SC2086  # two options
remote() { "$DEPOT_BUILD/depotctl" --config "$rig/conf.d" $url "$@"; }
ok "over HTTP" remote whoami
like "$out" '^actor: +token:ci$' "the token says who"
refused "what the role does not allow" 3 remote token list
like "$out" '^depotctl: (hint|try): ' "and what next"
chmod 644 "$work/token"
ok "a token that others may read" remote whoami
like "$out" 'warning: others may read' "is worth a word"
chmod 600 "$work/token"
echo dpt_000000000000_wrong > "$work/wrong"
refused "a wrong token" 3 "$DEPOT_BUILD/depotctl" --url "http://127.0.0.1:$api_port" --token-file "$work/wrong" whoami
ok "token list as JSON" run --json token list
id=$(field '[t["id"] for t in d if t["name"] == "ci"][0]')
if command -v script > /dev/null; then
    echo n > "$work/no"
    echo y > "$work/yes"
    input=$work/no refused "a question on a terminal, answered with no" 1 on_terminal "$ctl_line token revoke $id"
    like "$out" "token revoke $id: go on\?" "says what will be done"
    ok "and nothing was done" remote whoami
    input=$work/yes ok "answered with yes" on_terminal "$ctl_line token revoke $id"
else
    ok "token revoke" run token revoke "$id"
fi
refused "a revoked token" 3 remote whoami

note "content both ways"
head -c 20000000 /dev/urandom > "$work/big"
sha=$(sha256sum "$work/big" | cut -c1-64)
ok "storage put" run --json storage put "$work/big"
is "$(field 'd["sha"], d["bytes"]')" "('$sha', 20000000)" "the daemon got every byte"
ok "storage get into a file" run storage get "$sha" --output "$work/back"
ok "the same bytes" cmp "$work/big" "$work/back"
"$DEPOT_BUILD/depotctl" --state "$rig/state" storage get "$sha" | cmp - "$work/big"
tap_point $? "the same to a pipe"
ok "storage put from standard input" sh -c "head -c 1000 $work/big | $ctl_line storage put -"
like "$out" '^bytes: +1000 B$' "of a length that nobody said"
refused "an object that is not there" 1 run storage get "$(printf '%064d' 0)" --output "$work/nothing"
is "$(ls "$work/nothing" 2> /dev/null)" "" "leaves no file"
refused "a full disk" 1 run storage get "$sha" --output /dev/full
like "$out" 'No space left' "says so"
refused "a file that is not there" 1 run storage put "$work/absent"
refused "a folder" 2 run storage put "$work"
if command -v script > /dev/null; then
    ok "on a terminal" on_terminal "(head -c 1000000 $work/big; sleep 1; tail -c 1000000 $work/big) | $ctl_line storage put -"
    like "$out" '[0-9.]+ [KM]iB/s' "there is progress"
    ok "but not with --quiet" on_terminal "(head -c 1000000 $work/big; sleep 1; echo x) | $ctl_line --quiet storage put -"
    unlike "$out" 'iB/s' "then not"
    refused "bytes are not sent to a terminal" 2 on_terminal "$ctl_line storage get $sha"
    ok "colour on a terminal" on_terminal "$ctl_line plugin list"
    like "$out" "$(printf '\033\\[32mstarted')" "is there"
    ok "NO_COLOR" on_terminal "NO_COLOR=1 $ctl_line plugin list"
    unlike "$out" "$(printf '\033')" "is honoured"
else
    skip "on a terminal" "no script(1)"
fi

note "refusals"
refused "a deadline that is too short" 1 run --timeout 1ms storage put "$work/big"
like "$out" 'no answer in time' "says so"
if [ "$(id -u)" = 0 ] && id nobody > /dev/null 2>&1 && command -v setpriv > /dev/null; then
    refused "another user" 3 setpriv --reuid=nobody --regid=nogroup --clear-groups "$DEPOT_BUILD/depotctl" --state "$rig/state" status
else
    skip "another user" "not root"
fi

note "gone"
rig_stop
refused "status of a stopped daemon" 3 run status
refused "doctor of a stopped daemon" 3 run doctor
ok "plugin list comes from the files" run plugin list
like "$out" 'this comes from the files' "and says so"
ok "config show too" run --quiet config show schedule
refused "migrations of the embedded cluster need the daemon" 3 run migrate up
finish
