-- Job types to try a queue with: `depotctl queue seed 10` makes some.
-- To use them: copy this file to handlers/ of your script folder.

depot.job("ok") { run = function() end }

depot.job("demo_ok") { run = function() depot.sleep(0.3) end }

depot.job("fail_me") { run = function(job)
  depot.sleep(0.3)
  job:fail("TIMEOUT", "it was to fail")
end }

depot.job("email_send") {
  timeout = "10s",
  args = { user_id = "integer", template = { type = "string", default = "welcome" } },
  args_extra = true,
  run = function(job)
    job:log("info", "would send a mail", { user_id = job.args.user_id, template = job.args.template })
  end,
}
