-- wrk -s wrk.lua URL -- METHOD PATH COUNT AUTHORIZATION [BODY]
-- Each request is drawn from COUNT of them; `{n}` in PATH and BODY stands for its number. What is printed at the end is
-- read by load.rs.

local requests, count = {}, 0

function init(args)
  local method, path, authorization, body = args[1], args[2], args[4], args[5]
  count = tonumber(args[3])
  local headers = { ["Authorization"] = authorization }
  if body then headers["Content-Type"] = "application/json" end
  math.randomseed(os.time())
  for n = 0, count - 1 do
    -- In parentheses, as gsub returns two values.
    requests[n] = wrk.format(method, (path:gsub("{n}", n)), headers, body and (body:gsub("{n}", n)))
  end
end

function request()
  return requests[math.random(0, count - 1)]
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local p50, p99 = latency:percentile(50), latency:percentile(99)
  io.write(string.format("done %d %d %d %d %d\n", summary.requests, summary.duration, failed, p50, p99))
end
