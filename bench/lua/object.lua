-- A small JSON object, as is sent to a function.
dofile("report.lua")

wrk.method = "POST"
wrk.body = '{"name":"faucet","values":[1,2,3]}'
wrk.headers["Content-Type"] = "application/json"
