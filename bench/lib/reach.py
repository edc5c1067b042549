"""What faucet must reach, and whether it did."""

from dataclasses import dataclass

from lib.table import number, table


@dataclass(frozen=True)
class Reach:
    suite: str
    key: str
    measure: str
    # "at least" or "at most", times the other's.
    bound: str
    limit: float
    unit: str = "x"
    digits: int = 2

    def row(self, measured):
        reach = f"{self.bound} {self.limit:g}{self.unit}"
        return [self.measure, reach, number(measured, self.digits, self.unit), self._verdict(measured)]

    def _verdict(self, measured):
        if measured is None:
            return "not measured"
        kept = measured >= self.limit if self.bound == "at least" else measured <= self.limit
        return "ok" if kept else "short"


NATIVE = "one native worker, one keep-alive client"
COMPILED = "compiled routes, one worker, one keep-alive client"
OPEN = "open load, 1 in 10 sleeping 1 s, to round robin (nginx)"
STORM = "8 workers at half load, in a storm"
SLOTS = "1 ms work on 4 dialled-in slots, to POTHEAD's workers"
CALLED = "deployed function(x) x, to a plumber route of run()"
DEPLOYED = "small function deployed from a new session until it answers, to Rscript -e 'library(faucet)'"
SPREAD = "proxy over 4 agents with 1 worker each, 64 clients, 50 ms"
STREAMED = "a \\| b \\| c of identity streams in R, 1 GiB"
CROSSED = "10,000 crossing chains over 4 functions with 1 worker each, half cancelled"
ADDED = "chain of 5 value functions: time of an added stage"
RPC = "function(x) x over gRPC"
SCALED = "replicas 2 to 8 to 3, 64 clients, 50 ms"

REACHES = [
    Reach("latency", "mean", "keep-alive client, fast, to plumber with new connections: mean latency", "at most", 1.1),
    Reach("plumber", "rate", "4 workers, 32 clients, fast, to HAProxy at its better: requests/s", "at least", 1.15),
    Reach("open", "mean", f"{OPEN}: mean time of the fast", "at most", 0.25),
    Reach("open", "p90", f"{OPEN}: p90 time of the fast", "at most", 0.25),
    Reach("stub", "rate 4", "stub upstream, 4 clients, to HAProxy: requests/s", "at least", 1.0),
    Reach("stub", "cpu 4", "stub upstream, 4 clients, to HAProxy: CPU per request", "at most", 1.0),
    Reach("stub", "rate 64", "stub upstream, 64 clients, to HAProxy: requests/s", "at least", 1.0),
    Reach("stub", "cpu 64", "stub upstream, 64 clients, to HAProxy: CPU per request", "at most", 1.0),
    Reach("idle", "faucet", "memory of 5,000 idle keep-alive clients, faucet in R", "at most", 60, " MB"),
    Reach("idle", "front", "memory of 5,000 idle keep-alive clients, faucet's front alone", "at most", 60, " MB"),
    Reach("native", "fast", f"{NATIVE}, fast, to plumber: requests/s", "at least", 1.3),
    Reach("native", "json", f"{NATIVE}, json, to plumber: requests/s", "at least", 1.3),
    Reach("native", "echo", f"{NATIVE}, 1 MiB echo, to plumber: requests/s", "at least", 2.0),
    Reach("native", "many", "4 workers, 32 clients, fast, native to http: requests/s", "at least", 1.25),
    Reach("native", "left", "client left a 30 s handler: p99 of the worker's next answer", "at most", 50, " ms"),
    Reach("native", "event", "first event of a stream at the client: p99", "at most", 5, " ms"),
    Reach("native", "replaced", "killed worker's replacement answers, preload to without: time", "at most", 0.1),
    Reach("native", "memory", "500 MB object, 8 preloaded workers to one fresh: memory", "at most", 2.0),
    Reach("compiled", "fast", f"{COMPILED}, fast, to plumber: requests/s", "at least", 3),
    Reach("compiled", "small", f"{COMPILED}, json of one string, to plumber: requests/s", "at least", 3),
    Reach("compiled", "json", f"{COMPILED}, json of lists in a list, to plumber: requests/s", "at least", 3),
    Reach("compiled", "rows", f"{COMPILED}, json of 100 rows, to plumber: requests/s", "at least", 1.5),
    Reach("compiled", "order", f"{COMPILED}, 1 kB of JSON posted, to plumber: requests/s", "at least", 2.5),
    Reach("compiled", "total", f"{COMPILED}, 1 kB of JSON posted for a number, to plumber: requests/s", "at least", 2.5),
    Reach("compiled", "filter", f"{COMPILED}, not plain for a filter, to before: requests/s", "at least", 1),
    Reach("compiled", "hook", f"{COMPILED}, not plain for a hook, to before: requests/s", "at least", 1),
    Reach("compiled", "many", "compiled, 4 workers, 32 clients, fast, to HAProxy at its better: requests/s", "at least", 3),
    Reach("compiled", "share json", "compiled json: handler and serializer of R's time", "at least", 60, " %", digits=0),
    Reach("k8s", "stubs", "4 stub replicas, 64 clients, run_k8s to the front alone: requests/s", "at least", 0.95),
    Reach("k8s", "failed", f"{SCALED}: failed requests", "at most", 0, "", digits=0),
    Reach("k8s", "first", f"{SCALED}: a new one's first request, in refreshes", "at most", 1, ""),
    Reach("k8s", "late", f"{SCALED}: requests to a removed one after a refresh", "at most", 0, "", digits=0),
    Reach("k8s", "in flight", "two fronts over 4 pods, 64 clients: most in flight in a pod's R", "at most", 1, "", digits=0),
    Reach("k8s", "fronts", "two fronts over 4 pods, 64 clients, 50 ms, to one front: requests/s", "at least", 0.9),
    Reach("k8s", "crowd", "2,000 clients, 1,000 replicas to 4: CPU per request", "at most", 1.3),
    Reach("pools", "rate 4", "201 pools, 4 clients at one, to one pool: requests/s", "at least", 0.95),
    Reach("pools", "cpu 4", "201 pools, 4 clients at one, to one pool: CPU per request", "at most", 1.05),
    Reach("pools", "rate 64", "201 pools, 64 clients at one, to one pool: requests/s", "at least", 0.95),
    Reach("pools", "cpu 64", "201 pools, 64 clients at one, to one pool: CPU per request", "at most", 1.05),
    Reach("pools", "growth", "growth from 1 to 4 workers with a template, from the decision on", "at most", 0.5, " s"),
    Reach("pools", "processes", "100 pools that sleep: R processes", "at most", 0, "", digits=0),
    Reach("pools", "memory", "100 pools that sleep: memory of the front alone", "at most", 50, " MB"),
    Reach("pools", "memory in R", "100 pools that sleep: memory of the front in R", "at most", 50, " MB"),
    Reach("pools", "neighbour p99_ms", "one client, 100 that sleep at another pool, to alone: p99", "at most", 1.5),
    Reach("hub", "rate", "1 ms work on 4 dialled-in slots, 64 clients, to the front alone: requests/s", "at least", 0.9),
    Reach("hub", "pothead rate", f"{SLOTS} as they come, 64 clients: requests/s", "at least", 5),
    Reach("hub", "pothead added", f"{SLOTS} as they come: added latency at p50", "at most", 0.1),
    Reach("hub", "eager rate", f"{SLOTS} without their pauses, 64 clients: requests/s", "at least", 5),
    Reach("hub", "eager added", f"{SLOTS} without their pauses: added latency at p50", "at most", 0.1),
    Reach("hub", "idle memory", "10,000 idle slots: memory of the hub", "at most", 150, " MB"),
    Reach("hub", "idle p99", "10,000 idle slots, to 1: added to a request at p99", "at most", 1, " ms"),
    Reach("hub", "hubs in flight", "two hubs, 4 workers, 64 clients: most in flight at a worker", "at most", 1, "", digits=0),
    Reach("hub", "hubs rate", "two hubs, 4 workers, 64 clients, 1 ms work, to one hub: requests/s", "at least", 0.9),
    Reach("functions", "proxy 1", f"{CALLED}, through a proxy, 1 client: requests/s", "at least", 1.2),
    Reach("functions", "proxy 32", f"{CALLED}, through a proxy, 32 clients: requests/s", "at least", 1.2),
    Reach("functions", "agent 1", f"{CALLED}, straight at the agent, 1 client: requests/s", "at least", 1.5),
    Reach("functions", "agent 32", f"{CALLED}, straight at the agent, 32 clients: requests/s", "at least", 1.5),
    Reach("functions", "agents", f"{SPREAD}, to one agent with 4: requests/s", "at least", 0.95),
    Reach("functions", "in flight", f"{SPREAD}: most in flight in an agent's R", "at most", 1, "", digits=0),
    Reach("functions", "failed", f"{SPREAD}: failed requests", "at most", 0, "", digits=0),
    Reach("functions", "processes", "500 functions that sleep: R processes but the template", "at most", 0, "", digits=0),
    Reach("functions", "memory", "500 functions that sleep: memory of the agent in R", "at most", 100, " MB"),
    Reach("functions", "cold", "500 functions that sleep: a cold call, to a fresh R start: time", "at most", 0.2),
    Reach("functions", "deployed", f"{DEPLOYED}: time", "at most", 1.5),
    Reach("chains", "stream", f"{STREAMED}, to cat through three loopback sockets: MB/s", "at least", 0.5),
    Reach("chains", "stream memory", f"{STREAMED}: growth of the process that grows most", "at most", 64, " MB"),
    Reach("chains", "stage", f"{ADDED}, to a call of one after another", "at most", 1.2),
    Reach("chains", "stage again", f"{ADDED}, to a call of one again and again", "at most", 1.2),
    Reach("chains", "hung", f"{CROSSED}: hang", "at most", 0, "", digits=0),
    Reach("chains", "chains failed", f"{CROSSED}: failed", "at most", 0, "", digits=0),
    Reach("chains", "not free", f"{CROSSED}: functions not free at the end", "at most", 0, "", digits=0),
    Reach("chains", "grpc 1 HTTP/1.1", f"{RPC}, 1 client, to HTTP/1.1: requests/s", "at least", 0.8),
    Reach("chains", "grpc 1 HTTP/2", f"{RPC}, 1 client, to HTTP/2: requests/s", "at least", 0.8),
    Reach("chains", "grpc 32 HTTP/1.1", f"{RPC}, 32 clients, to HTTP/1.1: requests/s", "at least", 0.8),
    Reach("chains", "grpc 32 HTTP/2", f"{RPC}, 32 clients, to HTTP/2: requests/s", "at least", 0.8),
    Reach("storm", "lost", f"{STORM}: lost requests of well-behaved clients", "at most", 0, "", digits=0),
    Reach("storm", "p99 native", f"{STORM}, native, to the calm: p99 of well-behaved clients", "at most", 3),
    Reach("storm", "p99 http", f"{STORM}, http, to the calm: p99 of well-behaved clients", "at most", 3),
    Reach("storm", "descriptors", f"{STORM}: descriptors of the front more than before", "at most", 0, "", digits=0),
    Reach("storm", "front", f"{STORM}: memory of the front, after the last to after the first", "at most", 1.1),
    Reach("storm", "worker", f"{STORM}: memory of a worker, after the last to after the first", "at most", 1.1),
    Reach("storm", "not ready", f"{STORM}: workers not ready afterwards", "at most", 0, "", digits=0),
]


def reach_table(measured):
    """`measured` is by suite, then by key; suites that did not run are left out."""
    rows = [reach.row(measured[reach.suite].get(reach.key)) for reach in REACHES if reach.suite in measured]
    return table(["measure", "reach", "measured", "verdict"], rows)
