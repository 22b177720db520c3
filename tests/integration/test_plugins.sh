#!/bin/sh
# Plugins in a running daemon: order, reload, one that does not start (required or not), one that does not stop.
lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh" && . "$lib/rig.sh"
so=$DEPOT_BUILD/tests/plugins
rig_new

plugin() { # NAME [LINE...]: a file of conf.d for one of tests/plugins
    name=$1
    shift
    printf '[plugin %s]\nfile = %s/%s.so\n' "$name" "$so" "$name" > "$rig/conf.d/70-$name.ini"
    for line; do printf '%s\n' "$line" >> "$rig/conf.d/70-$name.ini"; done
}
logged() { grep -q -e "$1" "$rig/depotd.log"; }

# ---- does not start
plugin start_fails
refused "a required plugin does not start: status 1" 1 rig_run --foreground
like "$out" 'plugin start_fails did not start: cannot open /dev/tape0: No such file' "it is named, with the reason"
like "$out" 'plug the tape drive in' "and what to do"
is "$(rig_postmaster)" "" "and no server is left behind"
is "$(grep -ls -e '[-]-worker' /proc/[0-9]*/cmdline | xargs -r grep -ls -e "$rig/[s]tate" | wc -l)" 0 "nor a worker"

plugin start_fails 'required = no'
printf '[plugin not_there]\nrequired = no\n' > "$rig/conf.d/70-not_there.ini"
plugin next_minor 'required = no'
ok "with required = no the daemon starts" rig_start
api GET /health
is "$code" 200 "/health answers"
like "$(json '[(x["plugin"], x["why"]) for x in d["degraded"]]')" 'start_fails.*cannot open /dev/tape0' "and says what is degraded"
like "$body" 'not_there' "also the plugin that is not there"
like "$body" 'next_minor' "and the one for another ABI"
try ctl status
like "$out" 'start_fails' "depotctl status says it"
ok "depotctl plugin list" ctl plugin list
like "$out" 'start_fails.*failed' "shows it as failed"
ok "depotctl plugin show" ctl plugin show start_fails
api GET /ready
is "$code" 200 "the daemon is ready all the same"
ok "it stops" rig_stop
rm "$rig/conf.d/"70-*.ini

# ---- start, reload, drain, stop
plugin lifecycle 'number = 2'
ok "a plugin with a life cycle" rig_start
ok "starts" logged 'start with 2'
plugin lifecycle 'number = 3'
ok "a reload" ctl config reload
ok "reaches it" logged 'reload with 3'
plugin lifecycle 'number = 13'
refused "its own check can refuse one" 78 ctl config reload
like "$out" '70-lifecycle.ini:1: error: lifecycle cannot count to 13' "with place and reason"
ok "and it keeps what it had" sh -c "! grep -q 'reload with 13' '$rig/depotd.log'"
plugin lifecycle 'number = 3' 'hang = yes'
refused "an option that is not reloadable" 78 ctl config reload
like "$out" '70-lifecycle.ini:4: error: .*hang' "needs a restart"
plugin lifecycle 'number = 3'
plugin clock_one
refused "a plugin that comes" 78 ctl config reload
like "$out" 'clock_one is new' "needs a restart too"
rm "$rig/conf.d/70-clock_one.ini"
ok "it stops" rig_stop
# workers drain too, at each reload: equal neighbours count once
is "$(grep -o '"event":"lifecycle\.[a-z]*' "$rig/depotd.log" | sed 's/.*"//' | grep -v reload | uniq | tr '\n' ' ')" "lifecycle.start lifecycle.drain lifecycle.stop " \
    "in the order start, drain, stop"

# ---- does not stop
printf '[daemon]\ndrain_timeout = 1s\n' > "$rig/conf.d/71-drain.ini"
plugin lifecycle 'hang = yes'
ok "a plugin whose drain hangs" rig_start
began=$(date +%s)
rig_signal TERM
rig_wait 25 > "$work/wait" 2>&1
ended=$(($(date +%s) - began))
is "$(cat "$work/wait")" "" "does not keep the daemon for ever"
like "$(cat "$rig/depotd.log")" 'lifecycle.*(drain|stop)' "the log names it"
ok "it took $ended s" test $ended -le 22
is "$(rig_postmaster)" "" "the embedded server has stopped"
finish
