#!/bin/sh
# depotctl lua check, run and test, without any daemon; the examples and their tests.
lib=$(cd "$(dirname "$0")/../lib" && pwd) && . "$lib/sh-tap.sh"
ctl() { "$DEPOT_BUILD/depotctl" --config "$work/conf.d" --state "$work/state" "$@"; }
mkdir -p "$work/conf.d" "$work/lua/handlers" "$work/state"
export DATABASE_URL=
unset DATABASE_URL

ok "the tests of the examples pass" ctl lua test
like "$out" 'ok [0-9]+ - examples/webhook_test.lua: a delivery is signed' "by name"
ok "what is shipped is fine" ctl lua check

cat > "$work/lua/handlers/a.lua" << 'LUA'
local function f() return depot.storage.putt("x"), undefined_thing end
depot.job("a") { needs = { "exec:/bin/echo" }, args = { n = "integer?" }, run = function(job)
  job:progress(0.5, "half")
  return { depot.exec { "/bin/echo", tostring(job.args.n) }.out, f ~= nil }
end }
LUA
refused "names that do not exist are found" 78 ctl lua check
like "$out" 'handlers/a.lua:1: error: there is no depot.storage.putt' "a function"
like "$out" 'hint: did you mean depot.storage.put' "with the nearest"
like "$out" "handlers/a.lua:1: error: there is no variable 'undefined_thing'" "a variable"
sed -i '1s/.*/local f = 1/' "$work/lua/handlers/a.lua"
ok "corrected it passes" ctl lua check "$work/lua/handlers/a.lua"
like "$out" 'warning: the job a needs exec:/bin/echo, which conf.d does not grant' "with a warning of what is not granted"
refused "without the grant it cannot run to its end" 3 ctl lua run "$work/lua/handlers/a.lua" --args '{"n": 5}'
like "$out" 'CAPABILITY' "CAPABILITY"
ok "with it it does" ctl lua run "$work/lua/handlers/a.lua" --args '{"n": 5}' --grant exec:/bin/echo
like "$out" '\["5\\n",true\]' "and its result is printed"
refused "arguments are checked" 1 ctl lua run "$work/lua/handlers/a.lua" --args '{"n": "x"}'
like "$out" 'BAD_PAYLOAD: arguments: n: must be an integer' "as in the daemon"
printf 'return depot.db:value("select 1")\n' > "$work/x.lua"
refused "without DATABASE_URL there is no database" 3 ctl lua run "$work/x.lua"
like "$out" 'no database' "which is said"
printf 'return { ... }\n' > "$work/x.lua"
ok "a plain script runs from anywhere" ctl lua run "$work/x.lua" --args '[1, 2]'
like "$out" '\[\[1,2\]\]' "with its argument"
printf 'depot.needs { "exec" } for _ = 1, 20 do depot.exec { "/bin/true", stdin = ("x"):rep(300000) } end return 1\n' > "$work/x.lua"
ok "a program that reads none of its input does not end it" ctl lua run "$work/x.lua" --grant exec

cat > "$work/lua/handlers/a_test.lua" << 'LUA'
test("right", function(t) t:eq(t:job("a", { n = 1 }, { exec = function(s) return { out = s[2] } end }).value[1], "1") end)
test("wrong", function(t) t:eq({ 1, { 2 } }, { 1, { 3 } }) end)
test("false is kept", function(t) t:eq(t:job("c").value, { false, false, 1 }) end)
test("no fake", function(t) t:eq(t:job("a").error.message, "the test gives no fake for depot.exec") end)
LUA
cat > "$work/lua/handlers/c.lua" << 'LUA'
depot.job("c") { run = function(job)
  local function no() return false end
  return { job:checkpoint("x", no), job:checkpoint("x", error), job:checkpoint("y", function() end) == nil and 1 }
end }
LUA
refused "a test that fails is told" 1 ctl lua test "$work/lua/handlers/a_test.lua"
like "$out" '^ok 1 - handlers/a_test.lua: right' "one passes"
like "$out" '^not ok 2 - handlers/a_test.lua: wrong' "one fails"
like "$out" 'got \[1,\[2\]\], want \[1,\[3\]\]' "and says why"
like "$out" '^ok 3 ' "a checkpoint gives what it was given"
like "$out" '^ok 4 ' "what has no fake is named"
cat > "$work/entries" << 'LUA'
1 + 1, "two\tlines"
x = { 1, b = { depot.null }, ["a b"] = true }
x
function twice(n)
  return 2 * n
end
twice(21)
do local function deep() error("boom") end deep() end
depot.fail { code = "MINE", message = "no", hint = "do that" }
print(depot.json.encode { n = 1 }, depot.sleep(0.01) == nil)
)
t = {} for i = 1, 1e9 do t[i] = ("x"):rep(1000000) .. i end
twice
#depot.uuid()
LUA
cat > "$work/answers" << 'TEXT'
2	"two\9lines"
{ 1, ["a b"] = true, b = { depot.null } }
42
stdin:1: boom
TEXT
# shellcheck disable=SC2317 # called by refused and ok
session() { ctl lua repl < "$1"; }
refused "a session reads entries from a pipe" 1 session "$work/entries"
answers=$(printf '%s\n' "$out" | grep -v '^	\|^stack' | head -n 4)
like "$out" "^	stdin:1: in (local|function) 'deep'" "an error has its traceback"
unlike "$out" 'test/repl.lua:[0-9]+: in upvalue' "without what runs the session"
like "$out" '^MINE: no' "a structured error has its code"
like "$out" '^hint: do that' "and its hint"
like "$out" '^{"n":1}	true' "print prints; calls that wait do"
like "$out" 'LUA_SYNTAX: stdin:1: unexpected symbol' "what is no Lua is told"
like "$out" "^not enough memory" "an entry that eats memory ends"
like "$out" '^36$' "and the session goes on"
ok "expressions are answered, names stay, an entry may take several lines" test "$answers" = "$(cat "$work/answers")"
echo 1 > "$work/one"
ok "a session without a fault ends well" session "$work/one"
finish
