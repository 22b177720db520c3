-- report.daily: what the queues did in a day, as a Markdown page in the store.
-- To use it: copy it to handlers/ of your script folder and let a schedule make the job, in conf.d:
--   [schedule nightly-report]
--   cron = 15 2 * * *
--   tz   = Europe/Vienna
--   run  = job:reports/report.daily
--   args = {"project": "reports"}
-- A run that is repeated gives the page another pointer; of the page itself the store keeps one copy.

local figures = [[
  with attempts as (
    select j.queue, j.job_type, 1 as n, a.status = 'failed' as failed,
           case when j.status = 'dlq' then j.id end as dead, a.started_at, a.finished_at
    from queue.attempts a
    join (select id, queue, job_type, status from queue.jobs
          union all select id, queue, job_type, status from queue.jobs_archive) j on j.id = a.job_id
    union all -- what succeeded in a range of a chunk
    select c.queue, c.job_type, r.n - cardinality(r.others), false, null, r.started_at, r.finished_at
    from queue.chunk_attempts r join queue.chunks c on c.id = r.chunk
  )
  select queue, job_type, sum(n) as attempts, count(*) filter (where failed) as failed, count(distinct dead) as dead,
         round(max(extract(epoch from finished_at - started_at))::numeric, 1)::text as longest_s
  from attempts
  where finished_at >= $1::date and finished_at < $1::date + 1 and n > 0
  group by 1, 2 order by failed desc, attempts desc, 1, 2 limit 200]]

local function page_of(day, rows)
  local lines = {
    "# Jobs of " .. day, "",
    "| queue | type | attempts | failed | dead | longest |", ("|---"):rep(6) .. "|",
  }
  local failed = 0
  for _, r in ipairs(rows) do
    lines[#lines + 1] = ("| %s | %s | %d | %d | %d | %s s |"):format(
      r.queue, r.job_type, r.attempts, r.failed, r.dead, r.longest_s)
    failed = failed + r.failed
  end
  if #rows == 0 then lines[#lines + 1] = "| nothing ran | | | | | |" end
  return table.concat(lines, "\n") .. "\n", failed
end

depot.job("report.daily") {
  timeout = "5m",
  args = {
    day = { type = "string", optional = true, doc = "2026-11-26; without it yesterday" },
    project = { type = "string", default = "reports", doc = "where the page goes in the store" },
  },
  run = function(job)
    -- the database's clock and calendar, as in the query
    local day = job.args.day or depot.db:value("select (current_date - 1)::text")
    local rows = depot.db:rows(figures, day)
    local page, failed = page_of(day, rows)
    local object = depot.storage.put(page)
    local pointer = depot.storage.ref(job.args.project, "daily-" .. day, day .. ".md", object.sha)
    depot.event.emit("report.written", { day = day, pointer = pointer, failed = failed })
    return { pointer = pointer, sha = object.sha, types = #rows, failed = failed }
  end,
}
