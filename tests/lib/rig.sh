# shellcheck shell=sh disable=SC1091,SC2154,SC2034  # sh-tap.sh and $rig/ports set variables; tests read some of these
# rig.sh - private daemons for shell tests; needs sh-tap.sh first. Everything of a rig lies in one folder:
#     $rig/conf.d  $rig/state  $rig/depotd.log  $rig/pid
# A test may have several rigs; every function works on the one that $rig names.
#     rig_new                      folder, free ports, the shipped conf.d
#     rig_conf 90-test.ini <<END   adds or replaces a file of conf.d
#     rig_start && ctl status      starts it and waits until it is ready
# Daemons and what they leave are stopped, by pid, when the test ends; their logs are shown when a point failed.
# KEEP=1 leaves the folders.

rig='' rig_all=''
code='' body='' # what the last `api` or `admin` left

rig_ports() { # N: that many free TCP ports of loopback
    PYTHONPATH="$DEPOT_SRC/tests/lib" python3 -c 'import rig, sys
print(*rig.free_ports(int(sys.argv[1])))' "$1"
}

rig_new() { # [CONF-FOLDER]: conf.d is copied from there, by default from the one that is shipped
    rig=$(mktemp -d "$work/rig.XXXXXX") || return
    chmod 755 "$rig"
    mkdir "$rig/conf.d" "$rig/state" || return
    for rig_file in "${1:-$DEPOT_SRC/conf.d}"/*.ini; do
        [ ! -f "$rig_file" ] || cp "$rig_file" "$rig/conf.d/" || return
    done
    # shellcheck disable=SC2046  # two words
    set -- $(rig_ports 2)
    printf 'api_port=%s admin_port=%s\n' "$1" "$2" > "$rig/ports"
    . "$rig/ports"
    rig_all="$rig $rig_all"
}

rig_use() { # FOLDER: the rig that the functions work on from here
    rig=$1
    . "$rig/ports"
}

rig_conf() { cat > "$rig/conf.d/$1"; }

# rig_run ARGUMENT...: depotd in the foreground with the rig's folders and ports (for --check and the like)
rig_run() {
    DEPOT_API_ADDR=127.0.0.1:$api_port PGFLOW_ADMIN_ADDR=127.0.0.1:$admin_port \
        "$DEPOT_BUILD/depotd" --config "$rig/conf.d" --state "$rig/state" "$@"
}

# rig_spawn ARGUMENT...: starts it and does not wait
rig_spawn() {
    printf '\n--- start %s\n' "$(date +%T.%3N)" >> "$rig/depotd.log"
    DEPOT_API_ADDR=127.0.0.1:$api_port PGFLOW_ADMIN_ADDR=127.0.0.1:$admin_port \
        "$DEPOT_BUILD/depotd" --config "$rig/conf.d" --state "$rig/state" --foreground "$@" \
        < /dev/null >> "$rig/depotd.log" 2>&1 &
    echo $! > "$rig/pid"
}

# rig_start ARGUMENT...: starts it and waits until /ready answers 200 (RIG_READY seconds, 60)
rig_start() {
    rig_spawn "$@"
    rig_ready "${RIG_READY:-60}"
}

rig_ready() { # SECONDS
    rig_deadline=$(($(date +%s) + $1))
    until curl -fsS -m 2 -o /dev/null "http://127.0.0.1:$api_port/ready" 2> /dev/null; do
        if ! rig_alive; then
            echo "depotd ended before it was ready" >&2
            return 1
        fi
        if [ "$(date +%s)" -ge $rig_deadline ]; then
            echo "depotd was not ready after $1 s" >&2
            return 1
        fi
        sleep 0.05
    done
}

rig_pid() { cat "$rig/pid"; }

rig_runs() { # PID: it exists and is no zombie; one that vanishes while it is looked at does not run
    [ -n "$1" ] || return 1
    rig_state=$(sed -n 's/^[0-9]* (.*) \(.\) .*/\1/p' "/proc/$1/stat" 2> /dev/null)
    [ -n "$rig_state" ] && [ "$rig_state" != Z ]
}

rig_alive() { [ -s "$rig/pid" ] && rig_runs "$(rig_pid)"; }

rig_postmaster() { # pid of the rig's embedded server, if one runs
    rig_file=$(find "$rig/state/postgres" -name postmaster.pid 2> /dev/null | head -n 1)
    if [ -n "$rig_file" ] && rig_found=$(head -n 1 "$rig_file") && rig_runs "$rig_found"; then
        echo "$rig_found"
    fi
}

# rig_stop [SECONDS]: TERM; the daemon's exit status is left in $rig_status, 137 when it had to be killed
rig_stop() {
    rig_signal TERM
    rig_wait "${1:-60}"
}

rig_signal() { ! rig_alive || kill -"$1" "$(rig_pid)"; }

rig_wait() { # SECONDS for the daemon to end; kills it after that
    rig_deadline=$(($(date +%s) + $1))
    while rig_alive && [ "$(date +%s)" -lt $rig_deadline ]; do
        sleep 0.05
    done
    if rig_alive; then
        echo "depotd had not ended after $1 s" >&2
        rig_signal KILL
    fi
    rig_status=0
    wait "$(rig_pid)" 2> /dev/null || rig_status=$?
    : > "$rig/pid"
    return $rig_status
}

# rig_kill: KILL for the daemon alone; its server and workers are on their own
rig_kill() {
    rig_signal KILL
    wait "$(rig_pid)" 2> /dev/null
    : > "$rig/pid"
}

ctl() { "$DEPOT_BUILD/depotctl" --state "$rig/state" "$@"; }

rig_http() { # URL METHOD PATH [curl argument...]
    rig_url=$1$3 rig_method=$2
    shift 3
    [ ! -r "$rig/state/admin.token" ] ||
        set -- -H "Authorization: Bearer $(cat "$rig/state/admin.token")" "$@"
    body=$(curl -sS -m 30 -X "$rig_method" -w '\n%{http_code}' "$@" "$rig_url" 2>&1)
    code=$(printf '%s\n' "$body" | tail -n 1)
    body=$(printf '%s\n' "$body" | sed '$d')
}

# api METHOD PATH [curl argument...]: request with the admin token; leaves $code and $body. admin: the other listener.
api() { rig_http "http://127.0.0.1:$api_port" "$@"; }
admin() { rig_http "http://127.0.0.1:$admin_port" "$@"; }

# json EXPRESSION: a python expression over the last body as d, printed:  json 'd["jobs"][0]["id"]'
json() {
    printf '%s' "$body" | python3 -c 'import json, sys
d = json.load(sys.stdin)
v = eval(sys.argv[1])
print(v if isinstance(v, str) else json.dumps(v))' "$1"
}

rig_clean() {
    for rig in $rig_all; do
        . "$rig/ports"
        rig_stop 20 > /dev/null 2>&1
        rig_found=$(rig_postmaster)
        if [ -n "$rig_found" ]; then # left behind by a daemon that was killed
            kill -INT "$rig_found"
            rig_deadline=$(($(date +%s) + 10))
            while rig_runs "$rig_found" && [ "$(date +%s)" -lt $rig_deadline ]; do sleep 0.1; done
            ! rig_runs "$rig_found" || kill -QUIT "$rig_found"
        fi
        if [ "$tap_failed" -gt 0 ] && [ -s "$rig/depotd.log" ]; then
            note "last lines of $rig/depotd.log:"
            note "$(tail -n 100 "$rig/depotd.log")"
        fi
        [ -z "${KEEP-}" ] || cp -a "$rig" "${TMPDIR:-/tmp}/"
    done
}
at_exit rig_clean
