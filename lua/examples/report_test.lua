local function fakes(rows)
  local stored = {}
  return {
    db = function(sql)
      return sql:find("current_date") and "2026-11-26" or rows
    end,
    storage = {
      put = function(data)
        stored.page = data
        return { sha = ("a"):rep(64), bytes = #data }
      end,
      ref = function(project, asset, name) return ("depot://%s/%s/%s"):format(project, asset, name) end,
    },
  }, stored
end

test("a day becomes a page with a name", function(t)
  local given, stored = fakes {
    { queue = "mail", job_type = "mail.send", attempts = 7, failed = 2, dead = 1, longest_s = "1.5" },
    { queue = "web", job_type = "web.ping", attempts = 3, failed = 0, dead = 0, longest_s = "0.1" },
  }
  local r = t:job("report.daily", {}, given)
  local pointer = "depot://reports/daily-2026-11-26/2026-11-26.md"
  t:eq({ r.value.pointer, r.value.types, r.value.failed }, { pointer, 2, 2 })
  t:ok(stored.page:find("| mail | mail.send | 7 | 2 | 1 | 1.5 s |", 1, true), stored.page)
  t:eq(r.events, { { name = "report.written", payload = { day = "2026-11-26", pointer = pointer, failed = 2 } } })
end)

test("a day on which nothing ran has one, too", function(t)
  local given, stored = fakes {}
  local r = t:job("report.daily", { day = "2026-01-01", project = "p" }, given)
  t:eq(r.value.pointer, "depot://p/daily-2026-01-01/2026-01-01.md")
  t:ok(stored.page:find("nothing ran", 1, true), stored.page)
end)
