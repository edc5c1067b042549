"""nginx: round robin over the workers, which knows nothing of their being busy."""

import os
import tempfile
from pathlib import Path
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
        self.directory = tempfile.TemporaryDirectory(prefix="bench-nginx-")
        directory = Path(self.directory.name)
        # Started by root, nginx serves as another user, who must reach its temporary files.
        os.chmod(directory, 0o755)
        config = Template((CONFIG / "nginx.conf").read_text()).substitute(
            directory=directory,
            port=self.port,
            servers="\n        ".join(f"server {address} max_fails=0;" for address in self.upstreams),
            keepalive="keepalive 64; keepalive_requests 1000000000;" if self.keepalive else "",
            connection="" if self.keepalive else "close",
        )
        path = directory / "nginx.conf"
        path.write_text(config)
        return [program("nginx"), "-p", directory, "-e", "stderr", "-c", path]

    def pids(self):
        return [self.process.pid, *children(self.process.pid)]
