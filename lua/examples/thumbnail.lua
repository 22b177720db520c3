-- thumbs.make: a small picture of a stored one, made by ImageMagick.
-- To use it: copy it to handlers/ of your script folder and grant the program, in conf.d:
--   [handler thumbs.make]
--   grant = exec:/usr/bin/convert
-- Both pictures go through pipes: no file is left behind, whatever happens.

depot.job("thumbs.make") {
  needs = { "exec:/usr/bin/convert" },
  timeout = "2m",
  args = {
    sha = "sha256",
    width = { type = "integer", min = 1, max = 4096, default = 256 },
    quality = { type = "integer", min = 1, max = 100, default = 80 },
  },
  run = function(job)
    local size = ("%dx%d>"):format(job.args.width, job.args.width)
    local res = depot.exec {
      "/usr/bin/convert", "-limit", "memory", "256MiB", "-", "-auto-orient", "-thumbnail", size,
      "-quality", tostring(job.args.quality), "jpeg:-",
      stdin = depot.storage.get(job.args.sha),
      max_output = 8 * 1024 * 1024,
      timeout = "90s",
    }
    if res.status ~= 0 then
      -- a picture that cannot be read stays so; a program that was killed may do better next time
      job:fail("THUMB_FAILED", res.err:sub(1, 300), { retry = res.signal and "safe" or "no" })
    end
    if res.truncated then
      job:fail("THUMB_TOO_LARGE", "the thumbnail has more than 8 MiB", { retry = "no" })
    end
    return { sha = depot.storage.put(res.out).sha, bytes = #res.out }
  end,
}
