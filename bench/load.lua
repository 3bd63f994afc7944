-- What wrk sends: POST requests whose bodies are the lines of a file, taken in turn. What it prints last: one JSON line.
-- Arguments: the file, the line before the first one to send, the path, and any number of further header lines ("name: value").
local requests, count, at = {}, 0, 0

function init(arguments)
   local head = "POST " .. arguments[3] .. " HTTP/1.1\r\nHost: " .. wrk.headers["Host"]
      .. "\r\nContent-Type: application/json\r\nAuthorization: Bearer sk-bench\r\n"
   for i = 4, #arguments do head = head .. arguments[i] .. "\r\n" end
   head = head .. "Content-Length: "
   for body in io.lines(arguments[1]) do
      count = count + 1
      requests[count] = head .. #body .. "\r\n\r\n" .. body
   end
   at = tonumber(arguments[2])
end

function request()
   at = at % count + 1
   return requests[at]
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '\nbench {"requests":%d,"microseconds":%d,"p50":%d,"p99":%d,"bad":%d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
      errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
