local sha = ("a"):rep(64)

local function fakes(result)
  return {
    storage = {
      get = function() return "picture" end,
      put = function(data) return { sha = ("b"):rep(64), bytes = #data } end,
    },
    exec = function() return result end,
  }
end

test("the picture goes through the program", function(t)
  local r = t:job("thumbs.make", { sha = sha }, fakes { out = "small" })
  t:eq(r.value, { sha = ("b"):rep(64), bytes = 5 })
  t:eq({ r.programs[1].stdin, r.programs[1][8] }, { "picture", "256x256>" })
end)

test("a picture that cannot be read is not tried again", function(t)
  t:eq(t:job("thumbs.make", { sha = sha }, fakes { status = 1, err = "no decode delegate" }).error.retry, "no")
  t:eq(t:job("thumbs.make", { sha = sha }, fakes { status = 137, signal = 9 }).error.retry, "safe")
end)

test("a width must make sense", function(t)
  t:eq(t:job("thumbs.make", { sha = sha, width = 0 }).error.code, "BAD_PAYLOAD")
end)
