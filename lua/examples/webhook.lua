-- webhook.deliver: tells another system of something, signed, until it has said yes.
-- To use it: copy it to handlers/ of your script folder and grant the hosts, in conf.d:
--   [handler webhook.deliver]
--   grant = http:hooks.example.org
-- The receiver computes the same signature over "<timestamp>.<body>" with the shared secret and compares.

depot.job("webhook.deliver") {
  needs = { "http" },
  timeout = "30s",
  max_attempts = 12, -- with growing pauses: some hours
  args = {
    url = "url",
    event = "string",
    payload = "object",
    secret = { type = "string", min = 16, doc = "shared with the receiver" },
  },
  run = function(job)
    local body = depot.json.encode { id = job.id, event = job.args.event, payload = job.args.payload }
    local at = ("%d"):format(depot.now())
    local res = depot.http.post(job.args.url, {
      body = body,
      timeout = "10s",
      headers = {
        ["Content-Type"] = "application/json",
        ["Idempotency-Key"] = job.id, -- a delivery may come twice
        ["X-Depot-Timestamp"] = at,
        ["X-Depot-Signature"] = "sha256=" .. depot.hmac_sha256(job.args.secret, at .. "." .. body),
      },
    })
    if res.status >= 200 and res.status < 300 then
      return { status = res.status }
    end
    if res.status == 429 or res.status == 503 then -- the receiver asks for time: not a failed attempt
      job:snooze(tonumber(res.headers["retry-after"]) or "1m", "the receiver answered " .. res.status)
    end
    local is_final = res.status == 410 or (res.status >= 400 and res.status < 500 and res.status ~= 408)
    job:fail("WEBHOOK_REFUSED", ("the receiver answered %d: %s"):format(res.status, res.body:sub(1, 200)),
      { retry = is_final and "no" or "safe" })
  end,
}
