#!/bin/sh
# A disk that is full: refused at start with what is missing, refused while running with NO_SPACE; nothing is lost, nothing is
# half there, and with room again everything goes on. Needs a tmpfs of its own, so root.
# shellcheck disable=SC2317  # functions that `eventually` calls by name
lib=$(cd "$(dirname "$0")/../lib" && pwd)
if [ -z "${IN_OWN_MOUNTS-}" ] && [ "$(id -u)" -eq 0 ] && unshare -m true 2> /dev/null; then
    IN_OWN_MOUNTS=yes exec unshare -m "$0" "$@" # what is mounted here ends with the test
fi
. "$lib/sh-tap.sh" && . "$lib/rig.sh"
[ -n "${IN_OWN_MOUNTS-}" ] || skip_all "needs root and a mount namespace"

small() { mkdir -p "$2" && mount -t tmpfs -o "size=$1,mode=755" tmpfs "$2"; }
fill() { # FOLDER: until nothing fits any more
    dd if=/dev/zero of="$1/ballast" bs=64k 2> /dev/null
    dd if=/dev/zero of="$1/ballast2" bs=512 2> /dev/null
    return 0
}
sha() { sha256sum "$1" | cut -d ' ' -f 1; }

# ---- too little for a cluster
rig_new
small 12m "$rig/state" || skip_all "no tmpfs can be mounted"
refused "a state folder with 12 MB: status 1" 1 rig_run --foreground
like "$out" '(No space left|disk|free|full|room)' "and the reason is named"
like "$out" "$rig/state" "with the place"
is "$(rig_postmaster)" "" "nothing runs on"

# ---- the store's disk
rig_new
small 3m "$rig/store"
printf '[plugin storage]\nimport = %s\n' "$rig/in" > "$rig/conf.d/95-test.ini"
grep -qs '^\[plugin storage\]' "$rig"/conf.d/*storage*.ini && sed -i '1a override = yes' "$rig/conf.d/95-test.ini"
export ASSET_STORAGE_PATH="$rig/store"
mkdir -p "$rig/in" "$rig/lua/handlers"
cat > "$rig/lua/handlers/keep.lua" <<'END'
depot.job("test.keep") {
  timeout = "20s", max_attempts = 10,
  run = function(job) return { sha = depot.storage.put_file(job.args.path).sha } end,
}
END
ok "a store of 3 MB" rig_start
head -c 900000 /dev/urandom > "$rig/in/fits"
head -c 4000000 /dev/urandom > "$rig/in/large"
ok "takes what fits" ctl storage put "$rig/in/fits"
api POST /v1/objects --data-binary "@$rig/in/large" -H 'Content-Type: application/octet-stream'
is "$code" 507 "what does not fit: 507"
is "$(json 'd["code"]')" NO_SPACE "with the code NO_SPACE"
like "$(json 'd["detail"]')" '(No space left|full)' "and a reason"
refused "depotctl says the same" 1 ctl storage put "$rig/in/large"
is "$(find "$rig/store" -type f | wc -l)" 1 "nothing half is left"
api POST "/v1/objects/$(sha "$rig/in/fits")/verify"
is "$code" 200 "what was there verifies"
fill "$rig/store"
head -c 300000 /dev/urandom > "$rig/in/later"
admin POST /jobs -H 'Content-Type: application/json' -d "{\"job_type\": \"test.keep\", \"payload_json\": {\"path\": \"$rig/in/later\"}}"
job=$(json 'd["job_id"]')
job_has() { admin GET "/jobs/$job" && [ "$(json "d.get('$1') or ''")" = "$2" ]; }
ok "a job that meets the full disk fails with NO_SPACE" eventually 20 job_has last_error_code NO_SPACE
rm "$rig/store"/ballast*
ok "and with room again its retry succeeds" eventually 30 job_has status succeeded
ok "every object verifies" ctl --json task run storage.scrub
body=$out
is "$(json 'd["result"]["corrupt"]')" 0 "none is damaged"
is "$(json 'd["result"]["objects"]')" 2 "and both are there"
ok "it stops" rig_stop

# ---- the disk of the embedded cluster
unset ASSET_STORAGE_PATH
rig_new
small 320m "$rig/state"
mkdir -p "$rig/lua/handlers"
echo 'depot.job("test.nothing") { run = function() return {} end }' > "$rig/lua/handlers/nothing.lua"
ok "a state folder of 320 MB" rig_start
enqueue() {
    admin POST /jobs -H 'Content-Type: application/json' -d '{"job_type": "test.nothing", "payload_json": {}}'
    [ "$code" -ge 200 ] && [ "$code" -lt 300 ]
}
taken=0
for _ in 1 2 3 4 5 6 7 8 9 10; do ! enqueue || taken=$((taken + 1)); done
is $taken 10 "takes jobs"
fill "$rig/state"
n=0
while [ $n -lt 1500 ] && enqueue; do
    taken=$((taken + 1)) n=$((n + 1))
done
note "$n more were taken on the full disk, then: $code $body"
ok "the daemon lives" rig_alive
api GET /health
is "$code" 200 "and answers"
rm "$rig/state"/ballast*
ready() { api GET /ready && [ "$code" = 200 ] && enqueue; }
ok "with room again it goes on by itself" eventually 40 ready
taken=$((taken + 1))
queue_done() { admin GET /queues && [ "$(json 'sum(q["queued"] + q["running"] for q in (d["items"] if isinstance(d, dict) else d))')" = 0 ]; }
ok "every job ends" eventually 40 queue_done
succeeded=$(json 'sum(q["succeeded"] for q in (d["items"] if isinstance(d, dict) else d))')
ok "all $taken that were taken succeeded ($succeeded did)" test "$succeeded" -ge $taken
ok "it stops" rig_stop
finish
