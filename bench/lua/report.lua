-- wrk's results as one line of JSON, for bench/lib/load.py.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"seconds":%.6f,"mean_ms":%.4f,"p50_ms":%.4f,"p99_ms":%.4f,"errors":%d}\n',
    summary.requests,
    summary.duration / 1e6,
    latency.mean / 1e3,
    latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout
  ))
end
