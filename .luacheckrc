-- luacheck's view of scripts that run in depotd's workers.
std = "lua54"
read_globals = { "depot", "event", "job", "args" }
self = false -- a method need not use it
max_line_length = 120
exclude_files = { "lua/types/**" }
files["lua/**/*_test.lua"] = { read_globals = { "test" } }
