-- Arguments after `--`: method, bytes of body, "close" for a new connection each time.
-- Prints one line of JSON at the end, with times in microseconds. bench/src/wrk.rs reads the line
-- and has the list of percentiles.

function init(args)
   wrk.method = args[1]
   local bytes = tonumber(args[2])
   if bytes > 0 then
      wrk.body = string.rep("x", bytes)
      wrk.headers["Content-Type"] = "application/octet-stream"
   end
   if args[3] == "close" then
      wrk.headers["Connection"] = "close"
   end
end

function done(summary, latency, requests)
   local percentiles = {}
   for percentile in os.getenv("BENCH_PERCENTILES"):gmatch("[^,]+") do
      local value = percentile == "100" and latency.max or latency:percentile(tonumber(percentile))
      percentiles[#percentiles + 1] = string.format("%d", value)
   end
   local errors = summary.errors
   io.write(string.format(
      '{"duration_us":%d,"requests":%d,"bytes":%d,"latency_us":[%s],"errors":' ..
      '{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\n',
      summary.duration, summary.requests, summary.bytes, table.concat(percentiles, ","),
      errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
