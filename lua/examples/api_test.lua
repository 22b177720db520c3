local args = { url = "https://api.example.org/v1/things", token = "t0k" }

local function answers(status, headers, body)
  return { http = function() return { status = status, headers = headers, body = body or "{}" } end }
end

test("a call brings its token and its key", function(t)
  local r = t:job("api.call", args, answers(200, nil, '{"n": 1}'))
  t:eq(r.value, { status = 200, value = { n = 1 } })
  t:eq({ r.requests[1].method, r.requests[1].headers["Authorization"] }, { "GET", "Bearer t0k" })
  t:ok(r.requests[1].headers["Idempotency-Key"])
  t:eq(t:job("api.call", { url = args.url, body = { a = 1 } }, answers(201)).requests[1].method, "POST")
end)

test("too many calls: the API says how long to wait, within reason", function(t)
  t:eq(t:job("api.call", args, answers(429, { ["retry-after"] = "7" })).snoozed, 7)
  t:eq(t:job("api.call", args, answers(429, { ["retry-after"] = "Fri, 27 Nov 2026 10:00:00 GMT" })).snoozed, 60)
  t:eq(t:job("api.call", args, answers(503, { ["retry-after"] = "999999999" })).snoozed, 3600)
end)

test("what is tried again, and what is not", function(t)
  t:eq(t:job("api.call", args, answers(500)).error.code, "DEPENDENCY_DOWN")
  local refused = t:job("api.call", args, answers(404, nil, "no such thing")).error
  t:eq({ refused.code, refused.retry }, { "API_REFUSED", "no" })
  t:eq(t:job("api.call", args, answers(204, nil, "")).value, { status = 204 })
end)
