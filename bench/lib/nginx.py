"""nginx: round robin over the workers, which knows nothing of their being busy."""

from string import Template

from lib.contender import Contender
from lib.places import CONFIG
from lib.proc import children
from lib.programs import program


class Nginx(Contender):
    def __init__(self, name, upstreams, keepalive=True):
        super().__init__(name)
        self.upstreams = upstreams
        self.keepalive = keepalive

    def command(self):
        # Started by root, nginx serves as another user, who must reach its temporary files.
        self.directory.chmod(0o755)
        config = Template((CONFIG / "nginx.conf").read_text()).substitute(
            directory=self.directory,
            port=self.port,
            servers="\n        ".join(f"server {address} max_fails=0;" for address in self.upstreams),
            keepalive="keepalive 64; keepalive_requests 1000000000;" if self.keepalive else "",
            connection="" if self.keepalive else "close",
        )
        path = self.directory / "nginx.conf"
        path.write_text(config)
        return [program("nginx"), "-p", self.directory, "-e", "stderr", "-c", path]

    def pids(self):
        return [self.process.pid, *children(self.process.pid)]
