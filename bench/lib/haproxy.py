"""HAProxy: one thread, `maxconn 1` for each worker, so that it too queues in front of R."""

from string import Template

from lib.contender import Contender
from lib.places import CONFIG
from lib.programs import program

REUSED = "http-reuse always"
CLOSED = "option http-server-close\n    http-reuse never"


class HAProxy(Contender):
    def __init__(self, name, upstreams, connections=REUSED):
        super().__init__(name)
        self.upstreams = upstreams
        self.connections = connections

    def command(self):
        servers = (f"server w{i} {address} maxconn 1" for i, address in enumerate(self.upstreams))
        config = Template((CONFIG / "haproxy.cfg").read_text()).substitute(
            connections=self.connections, port=self.port, servers="\n    ".join(servers)
        )
        path = self.directory / "haproxy.cfg"
        path.write_text(config)
        return [program("haproxy"), "-db", "-f", path]
