-- fan.out and fan.in: many parts side by side, then one job that gathers what they made.
-- To use it: copy it to handlers/ of your script folder, and put your own work into fan.part.

depot.job("fan.out") {
  args = { parts = { type = "array", of = "object", min = 1, max = 1000 } },
  run = function(job)
    return job:tx(function() -- all of them, or none: a worker that is late makes nothing
      local ids = {}
      for i, part in ipairs(job.args.parts) do
        ids[i] = job:enqueue(job.queue, "fan.part", part)
      end
      return { gather = job:enqueue(job.queue, "fan.in", { parts = ids }), parts = ids }
    end)
  end,
}

depot.job("fan.part") {
  run = function(job)
    return { did = job.args }
  end,
}

depot.job("fan.in") {
  args = { parts = { type = "array", of = "uuid" } },
  run = function(job)
    local rows = depot.db:rows(
      "select id, status, result from queue.jobs "
        .. "where id in (select value::uuid from jsonb_array_elements_text($1::jsonb))",
      job.args.parts)
    local done, results = 0, depot.array()
    for _, row in ipairs(rows) do
      if row.status == "dlq" or row.status == "canceled" then
        job:fail("PART_FAILED", "part " .. row.id .. " is " .. row.status, { retry = "no" })
      end
      if row.status == "succeeded" then
        done = done + 1
        results[#results + 1] = row.result
      end
    end
    job:progress(done / #job.args.parts, ("%d of %d"):format(done, #job.args.parts))
    if done < #job.args.parts then
      job:snooze("2s", "waits for its parts")
    end
    return results
  end,
}
