"""What is compared, a file for each comparison: `run(plan)` gives its section of the report."""

from lib.suites import chains, compiled, functions, hub, idle, k8s, latency, native, open, plumber, pools, storm, stub

SUITES = {
    "stub": stub.run,
    "plumber": plumber.run,
    "open": open.run,
    "latency": latency.run,
    "idle": idle.run,
    "native": native.run,
    "compiled": compiled.run,
    "k8s": k8s.run,
    "pools": pools.run,
    "hub": hub.run,
    "functions": functions.run,
    "chains": chains.run,
    "storm": storm.run,
}
