test("parts and the job that gathers them are made together", function(t)
  local r = t:job("fan.out", { parts = { { n = 1 }, { n = 2 } } })
  t:eq(#r.enqueued, 3)
  t:eq({ r.enqueued[1].type, r.enqueued[3].type }, { "fan.part", "fan.in" })
  t:eq(r.enqueued[3].args.parts, r.value.parts)
end)

local ids = { depot.uuid(), depot.uuid() }
local function state(a, b)
  return { db = function()
    return { { id = ids[1], status = a, result = 1 }, { id = ids[2], status = b, result = 2 } }
  end }
end

test("it waits, gathers, or gives up", function(t)
  local waits = t:job("fan.in", { parts = ids }, state("succeeded", "queued"))
  t:eq({ waits.snoozed, waits.progress[1].at }, { 2, 0.5 })
  t:eq(t:job("fan.in", { parts = ids }, state("succeeded", "succeeded")).value, { 1, 2 })
  t:eq(t:job("fan.in", { parts = ids }, state("succeeded", "dlq")).error.code, "PART_FAILED")
end)
