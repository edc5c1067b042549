-- Nine fast requests, then one that sleeps 50 ms.
dofile("report.lua")

local sent = 0

function request()
  sent = sent + 1
  return wrk.format("GET", sent % 10 == 0 and "/sleep?s=0.05" or "/fast")
end
