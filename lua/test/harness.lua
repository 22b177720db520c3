-- What `depotctl lua test` runs: every test of a *_test.lua file, each handler against fakes. docs/lua.md describes it.
local given = ...

local function show(v)
  local ok, text = pcall(depot.json.encode, v)
  return ok and text or tostring(v)
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for k, v in pairs(a) do
    if not same(v, b[k]) then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

local function missing(what)
  return function() error("the test gives no fake for " .. what, 0) end
end

-- ---- a depot for the handler: what is pure is real, all else is a fake or recorded ----

local function fake_http(fakes, seen, need)
  local function ask(req)
    local scheme, host, port = req.url:match("^(https?)://([^/:?#]+):?(%d*)")
    if not scheme then depot.fail { code = "INVALID", message = "no URL: " .. req.url, retry = "no" } end
    need(("http:%s:%s"):format(host, port ~= "" and port or scheme == "https" and "443" or "80"))
    seen.requests[#seen.requests + 1] = req
    local res = (fakes.http or missing("depot.http"))(req)
    res.status, res.headers, res.body = res.status or 200, res.headers or {}, res.body or ""
    res.json = res.json or function() return depot.json.decode(res.body) end
    return res
  end
  local function with(method)
    return function(url, opts)
      local req = { url = url, method = method }
      for k, v in pairs(opts or {}) do req[k] = v end
      return ask(req)
    end
  end
  return { get = with("GET"), post = with("POST"), request = function(spec)
    local req = { method = (spec.body or spec.json ~= nil) and "POST" or "GET" }
    for k, v in pairs(spec) do req[k] = v end
    return ask(req)
  end }
end

-- fakes.db(sql, ...) gives a list of rows; a value that is no table stands for one row of one column.
local function fake_db(fakes)
  local ask = fakes.db or missing("depot.db")
  local db = {}
  local function rows(...)
    local r = ask(...)
    if r == nil then return {} end
    return type(r) == "table" and r or { { value = r } }
  end
  local function method(f) return function(self, ...) if self == db then return f(...) end return f(self, ...) end end
  db.rows = method(rows)
  db.row = method(function(...) return rows(...)[1] end)
  db.value = method(function(...) local row = rows(...)[1] if row then return select(2, next(row)) end end)
  db.exec = method(function(...)
    local r = ask(...)
    return type(r) == "number" and r or type(r) == "table" and #r or 0
  end)
  db.tx = method(function(f) return f(db) end)
  return db
end

local function seconds(d)
  if type(d) == "number" then return d end
  local n, unit = d:match("^(%d+)(%a+)$")
  return tonumber(n) * ({ ms = 0.001, s = 1, m = 60, h = 3600, d = 86400, w = 604800 })[unit]
end

local function fake_depot(fakes, seen, need)
  local function log(level)
    return function(msg, fields)
      seen.log[#seen.log + 1] = { level = level, message = tostring(msg), fields = fields }
    end
  end
  local function enqueue(queue, type, args, opts)
    seen.enqueued[#seen.enqueued + 1] = { queue = queue, type = type, args = args, opts = opts }
    return ("00000000-0000-7000-8000-%012d"):format(#seen.enqueued)
  end
  local own = {
    log = { debug = log "debug", info = log "info", warn = log "warn", error = log "error" },
    http = fake_http(fakes, seen, need),
    db = fake_db(fakes),
    storage = setmetatable(fakes.storage or {}, { __index = function(_, k) return missing("depot.storage." .. k) end }),
    event = { emit = function(name, payload) seen.events[#seen.events + 1] = { name = name, payload = payload } end },
    queue = { enqueue = enqueue },
    now = function() return seen.clock end,
    sleep = function(d) seen.clock = seen.clock + seconds(d) end,
    exec = function(spec)
      need("exec:" .. spec[1])
      seen.programs[#seen.programs + 1] = spec
      local res = (fakes.exec or missing("depot.exec"))(spec)
      res.status, res.out, res.err, res.truncated = res.status or 0, res.out or "", res.err or "", false
      return res
    end,
  }
  return setmetatable(own, { __index = depot }), enqueue
end

local function fake_job(type, args, fakes, seen, enqueue, db)
  local kept = fakes.checkpoints or {}
  local job = {
    id = "00000000-0000-7000-8000-000000000000", queue = "test", attempt = fakes.attempt or 1, max_attempts = 25,
    args = args,
  }
  function job:log(level, msg, fields)
    seen.log[#seen.log + 1] = { level = level, message = tostring(msg), fields = fields }
  end
  function job:fail(code, message, opts)
    depot.fail { code = code, message = message, retry = opts and opts.retry, hint = opts and opts.hint }
  end
  function job:snooze(d, reason)
    seen.snoozed = seconds(d)
    depot.fail { code = "SNOOZED", message = reason or type .. " is to run again later" }
  end
  function job:progress(at, text) seen.progress[#seen.progress + 1] = { at = at, text = text } end
  function job:checkpoint(name, f)
    if kept[name] == nil then
      local value = f()
      if value == nil then value = depot.null end
      kept[name] = depot.json.decode(depot.json.encode({ value }))[1]
    end
    if kept[name] == depot.null then return nil end
    return kept[name]
  end
  function job:record(name, value) kept[name] = value end
  function job:recorded(name) return kept[name] ~= nil and { kept[name] } or nil end
  function job:enqueue(...) return enqueue(...) end
  function job:tx(f) return f(db) end
  function job:heartbeat() return true end
  function job:hold() return true end
  return job
end

-- ---- running a handler ----

local function load_file(path, env)
  local chunk, why = load(depot.test.source(path), "@" .. path, "t", env)
  if not chunk then error(why, 0) end
  return chunk
end

local function run_job(type, args, fakes)
  fakes = fakes or {}
  local seen = { log = {}, requests = {}, programs = {}, enqueued = {}, events = {}, progress = {} }
  seen.clock = fakes.clock or 0
  local def, loaded = nil, {}
  local function need(want)
    for _, have in ipairs(def.needs or {}) do
      if depot.test.covers(have, want) then return end
    end
    depot.fail { code = "CAPABILITY", message = type .. " does not say that it needs " .. want, retry = "no" }
  end
  local own, enqueue = fake_depot(fakes, seen, need)
  own.job = function(name) return function(d) if name == type then def = d end end end
  local env = setmetatable({ depot = own, print = own.log.info }, { __index = _ENV })
  env.require = function(name)
    if loaded[name] == nil then
      loaded[name] = load_file("lib/" .. name:gsub("%.", "/") .. ".lua", env)(name) or true
    end
    return loaded[name]
  end
  load_file(depot.test.handler(type), env)()
  seen.value, seen.error = depot.try(function()
    local filled = depot.test.args(type, args or {})
    return def.run(fake_job(type, filled, fakes, seen, enqueue, own.db))
  end)
  seen.ok = seen.error == nil
  return seen
end

-- ---- tests ----

local function new_t()
  local t = {}
  function t:ok(good, name) if not good then error(name or "it does not hold", 2) end end
  function t:eq(got, want, name)
    if not same(got, want) then
      error(("%sgot %s, want %s"):format(name and name .. ": " or "", show(got), show(want)), 2)
    end
  end
  function t:fails(f, code)
    local ok, err = pcall(f)
    if ok then error("it does not fail", 2) end
    if code and (type(err) ~= "table" or err.code ~= code) then
      error(("fails with %s, not with %s"):format(tostring(err), code), 2)
    end
    return err
  end
  function t:job(...) return run_job(...) end
  return t
end

local results = depot.array()
for _, path in ipairs(given.files) do
  local tests = {}
  local function test_fn(name, f) tests[#tests + 1] = { name = name, f = f } end
  local env = setmetatable({ test = test_fn }, { __index = _ENV })
  local ok, why = pcall(function() load_file(path, env)() end)
  if not ok then
    results[#results + 1] = { file = path, name = "the file itself", ok = false, message = tostring(why) }
  end
  for _, test in ipairs(tests) do
    local good, message = pcall(test.f, new_t())
    results[#results + 1] = { file = path, name = test.name, ok = good, message = good and "" or tostring(message) }
  end
end
return results
