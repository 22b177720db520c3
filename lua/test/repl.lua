-- What `depotctl lua repl` runs: entries are read, run and answered one after the other in one sandbox.
-- docs/lua.md describes it.
local given = ...

local answers <const> = { depth = 4, items = 100 }

-- A value as a person would write it.
local function show(v, depth)
  if type(v) == "string" then return ("%q"):format(v):gsub("\\\n", "\\n") .. "" end
  if v == depot.null then return "depot.null" end
  if type(v) ~= "table" then return tostring(v) end
  if depth == 0 then return "{…}" end
  local parts, n = {}, rawlen(v)
  for i = 1, math.min(n, answers.items) do parts[i] = show(rawget(v, i), depth - 1) end
  local names = {}
  for k in next, v do
    if not (math.type(k) == "integer" and k >= 1 and k <= n) then names[#names + 1] = k end
  end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  for _, k in ipairs(names) do
    if #parts >= answers.items then break end
    local name = type(k) == "string" and k:match("^[%a_][%w_]*$") or "[" .. show(k, 1) .. "]"
    parts[#parts + 1] = name .. " = " .. show(rawget(v, k), depth - 1)
  end
  if n + #names > #parts then parts[#parts + 1] = ("… %d more"):format(n + #names - #parts) end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

local function say(...)
  local texts = table.pack(...)
  for i = 1, texts.n do texts[i] = tostring(texts[i]) end
  depot.test.write(table.concat(texts, "\t") .. "\n")
end

-- Names that an entry sets stay for the next ones; all else is the sandbox as every script has it.
local env = setmetatable({ print = say }, { __index = _ENV })

-- An expression or statements, of as many lines as it takes; an empty line ends what is not complete.
-- nil: the input has ended.
local function read_entry()
  local text, why, chunk
  repeat
    local line = depot.test.read(given.prompt and (text and ">> " or "> ") or "")
    if line == nil and text == nil then return nil end
    text = text and text .. "\n" .. (line or "") or line
    local as_value, unfinished = load("return " .. text, "=stdin", "t", env)
    chunk = as_value
    if not chunk then chunk, why = load(text, "=stdin", "t", env) end
    local goes_on = not chunk and (why:find("<eof>'?$") or unfinished:find("<eof>'?$"))
  until not goes_on or line == nil or line == ""
  return text, chunk, why
end

local function with_trace(err)
  local trace = depot.test.traceback():gsub("\n[^\n]*test/repl%.lua.*", "")
    :gsub("\n[^\n]*%[C%]: in function 'xpcall'.*", "")
  return { err = err, trace = trace:gsub("\n\t%[C%]: in %?", "", 1) }
end

local function tell(fault)
  if type(fault) ~= "table" or fault.err == nil then -- no handler runs when memory is out
    fault = { err = fault, trace = "" }
  end
  local err = fault.err
  if type(err) == "table" and err.code then
    say(("%s: %s"):format(err.code, err.message))
    if err.hint and err.hint ~= "" then say("hint: " .. tostring(err.hint)) end
  else
    say(tostring(err))
  end
  if fault.trace ~= "" then say(fault.trace) end
end

-- Values may run code of their own when they are looked at, and fail in it.
local function answer(results)
  local shown = {}
  for i = 2, results.n do shown[i - 1] = show(results[i], answers.depth) end
  if #shown > 0 then say(table.concat(shown, "\t")) end
end

local function safely(fn, value)
  if not pcall(fn, value) then say("(a value that cannot be shown)") end
end

if given.needs then depot.needs(given.needs) end
local failed = 0
for text, chunk, why in read_entry do
  if chunk then
    local results = table.pack(xpcall(chunk, with_trace))
    if results[1] then
      safely(answer, results)
    else
      failed = failed + 1
      safely(tell, results[2])
    end
  elseif text:find("%S") then
    failed = failed + 1
    say("LUA_SYNTAX: " .. why)
  end
end
return { failed = failed }
