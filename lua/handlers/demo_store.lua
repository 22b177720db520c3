-- Handler of the demonstration: stores a file, finds out what it is, records the facts.
--
-- Runs once for each job of type demo.store. It may run again after a crash, so what it does is safe to repeat: the
-- store knows content by its hash, and the row is written with "on conflict".

-- Big-endian number of four bytes: PNG keeps its width and height so.
local function u32(s, at)
  local a, b, c, d = s:byte(at, at + 3)
  return ((a * 256 + b) * 256 + c) * 256 + d
end

local function looks_like_text(s)
  return not s:find("\0", 1, true)
end

local function facts(head, path)
  if head:sub(1, 8) == "\137PNG\r\n\26\n" and #head >= 24 then
    return { kind = "png", width = u32(head, 17), height = u32(head, 21) }
  elseif head:sub(1, 2) == "\31\139" then
    return { kind = "gzip" }
  elseif path:find(".svg", -4, true) then
    return { kind = "svg" }
  elseif path:find(".html", -5, true) then
    return { kind = "html" }
  elseif looks_like_text(head) then
    return { kind = "text" }
  end
  return { kind = "other" }
end

local function count_lines(text)
  local n, at = 0, 0
  while true do
    at = text:find("\n", at + 1, true)
    if not at then
      return n
    end
    n = n + 1
  end
end

depot.job("demo.store") {
  timeout = "60s",
  max_attempts = 3,
  run = function(job)
    local path, n = job.args.path, job.args.n
    if type(path) ~= "string" then
      job:fail("BAD_PAYLOAD", "args.path is missing", { retry = "no" })
    end
    -- A failure made on purpose, to show a retry: the first try of every hundredth file.
    if n and n % 100 == 0 and job.attempt == 1 then
      job:fail("DEPENDENCY_DOWN", "failed on purpose: file number " .. n .. " succeeds on its second try")
    end

    local object = depot.storage.put_file(path)
    local content = depot.storage.get(object.sha, { max_bytes = 1048576 })
    local f = facts(content:sub(1, 64), path)
    if f.kind == "text" or f.kind == "html" or f.kind == "svg" then
      f.lines = count_lines(content)
    end

    depot.db:exec([[
      insert into demo.file (path, sha, bytes, stored_bytes, duplicate, kind, width, height, lines, job_id, attempt)
      values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
      on conflict (path) do update
         set sha = excluded.sha, bytes = excluded.bytes, stored_bytes = excluded.stored_bytes, kind = excluded.kind,
             width = excluded.width, height = excluded.height, lines = excluded.lines, recorded_at = now()]],
      path, object.sha, object.bytes, object.stored_bytes, object.existed, f.kind, f.width, f.height, f.lines,
      job.id, job.attempt)
    return { sha = object.sha, kind = f.kind, bytes = object.bytes }
  end,
}
