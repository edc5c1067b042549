-- A number in JSON, as is sent to a function.
dofile("report.lua")

wrk.method = "POST"
wrk.body = "42"
wrk.headers["Content-Type"] = "application/json"
