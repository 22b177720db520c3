local args = {
  url = "https://hooks.example.org/in", event = "job.dead", payload = { n = 1 }, secret = "0123456789abcdef",
}

local function answers(status, headers)
  return { clock = 1700000000, http = function() return { status = status, headers = headers, body = "because" } end }
end

test("a delivery is signed", function(t)
  local r = t:job("webhook.deliver", args, answers(204))
  t:eq(r.value, { status = 204 })
  local req = r.requests[1]
  t:eq(req.headers["X-Depot-Signature"], "sha256=" .. depot.hmac_sha256(args.secret, "1700000000." .. req.body))
  t:eq(depot.json.decode(req.body).payload, { n = 1 })
end)

test("a refusal is final or not by its status", function(t)
  for status, retry in pairs { [400] = "no", [410] = "no", [408] = "safe", [500] = "safe" } do
    local r = t:job("webhook.deliver", args, answers(status))
    t:eq({ r.error.code, r.error.retry }, { "WEBHOOK_REFUSED", retry }, tostring(status))
  end
end)

test("a receiver that asks for time gets it", function(t)
  t:eq(t:job("webhook.deliver", args, answers(429, { ["retry-after"] = "7" })).snoozed, 7)
  t:eq(t:job("webhook.deliver", args, answers(503)).snoozed, 60)
end)

test("arguments are checked", function(t)
  local r = t:job("webhook.deliver", { url = "https://x/", event = "e", payload = {}, secret = "short" })
  t:eq(r.error.code, "BAD_PAYLOAD")
end)
