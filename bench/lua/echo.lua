-- A body of 1 MiB, which comes back.
dofile("report.lua")

wrk.method = "POST"
wrk.body = string.rep("0123456789abcdef", 65536)
wrk.headers["Content-Type"] = "application/octet-stream"
