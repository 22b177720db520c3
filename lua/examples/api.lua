-- api.call: calls to somebody else's API that allows so many a second, and says 429 when it was too many all the same.
-- To use it: copy it to handlers/ of your script folder; in conf.d:
--   [handler api.call]
--   grant = http:api.example.org
--   [limit api]
--   rate  = 5/s
--   burst = 10
--   on    = type:api.call
-- The limit holds for all daemons together, as no job is leased beyond it. Arguments hold a token: let the queue
-- encrypt them ([queue api] encrypt_args = yes).

local longest_wait = 3600 -- seconds

-- Seconds, or a date, which few send and which is answered by a wait of a minute.
local function wait_of(res)
  local wait = tonumber(res.headers["retry-after"]) or 60
  return math.min(math.max(wait, 1), longest_wait)
end

depot.job("api.call") {
  needs = { "http" },
  timeout = "1m",
  max_attempts = 8,
  args = {
    url = "url",
    token = { type = "string", optional = true },
    body = { type = "any", optional = true, doc = "is posted; without it the url is fetched" },
  },
  run = function(job)
    local headers = { ["Accept"] = "application/json", ["Idempotency-Key"] = job.id } -- a call may come twice
    if job.args.token then headers["Authorization"] = "Bearer " .. job.args.token end
    local res = depot.http.request {
      url = job.args.url, method = job.args.body ~= nil and "POST" or "GET",
      json = job.args.body, headers = headers, timeout = "30s",
    }
    if res.status == 429 or res.status == 503 then
      job:snooze(wait_of(res), "the API answered " .. res.status) -- no failed attempt
    end
    if res.status >= 500 or res.status == 408 then
      job:fail("DEPENDENCY_DOWN", "the API answered " .. res.status)
    end
    if res.status >= 300 then
      job:fail("API_REFUSED", ("the API answered %d: %s"):format(res.status, res.body:sub(1, 200)), { retry = "no" })
    end
    local ok, value = pcall(res.json)
    return { status = res.status, value = ok and value or nil }
  end,
}
