"""A name server on loopback, whose answers can be changed while it runs."""

import signal
import socket
import struct
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from lib.http import wait_until
from lib.ports import free_port
from lib.problem import Problem
from lib.process import Process
from lib.programs import program

# What CoreDNS gives the names of a cluster's services, in seconds.
TTL = 5
A, INTERNET = 1, 1
TIMEOUT = 5
LOOK = 0.005


class Dnsmasq:
    """A context: dnsmasq that answers for names under `.test`, from a file that it reads anew on SIGHUP."""

    def __init__(self, **addresses):
        """`api=[...]` are the addresses of `api.test`."""
        self.addresses = addresses
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self):
        with ExitStack() as stack:
            directory = Path(stack.enter_context(TemporaryDirectory(prefix="faucet-bench-")))
            # Started by root, dnsmasq reads it as another user.
            directory.chmod(0o755)
            self.file = directory / "hosts"
            self._write()
            self.process = stack.enter_context(Process(self._command()))
            for name in self.addresses:
                self._wait_for(name)
            self._stop = stack.pop_all().close
        return self

    def __exit__(self, *_):
        self._stop()

    def change(self, name, addresses):
        """Returns when the new answer is given, with the time since when it is (of day, in seconds)."""
        self.addresses[name] = addresses
        self._write()
        self.process.popen.send_signal(signal.SIGHUP)
        self._wait_for(name)
        return time.time()

    def _command(self):
        # With --no-daemon it would answer one client after another over TCP, which long answers come by.
        options = ["--keep-in-foreground", f"--port={self.port}", "--listen-address=127.0.0.1", "--bind-interfaces"]
        options += ["--no-resolv", "--no-hosts", f"--addn-hosts={self.file}", f"--local-ttl={TTL}", "--local=/test/"]
        return [program("dnsmasq"), "--conf-file=/dev/null", "--pid-file=", *options]

    def _write(self):
        lines = (f"{address} {name}.test\n" for name, all in self.addresses.items() for address in all)
        self.file.write_text("".join(lines))

    def _wait_for(self, name):
        wanted = sorted(self.addresses[name])

        def gives_them():
            given = self._ask(f"{name}.test")
            if sorted(given) != wanted:
                raise Problem(f"{name}.test has {len(given)} addresses, not the {len(wanted)} it is to have")

        wait_until(self.process, gives_them, pause=LOOK)

    def _ask(self, name):
        """The A records of a name, by TCP, as there may be many."""
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        query = struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">B2H", 0, A, INTERNET)
        try:
            with socket.create_connection(("127.0.0.1", self.port), TIMEOUT) as connection:
                connection.sendall(struct.pack(">H", len(query)) + query)
                with connection.makefile("rb") as answer:
                    (length,) = struct.unpack(">H", answer.read(2))
                    return list(_a_records(answer.read(length), len(query)))
        except (OSError, struct.error, IndexError) as error:
            raise Problem(f"no answer for {name}: {error!r}") from error


def _a_records(answer, at):
    """Those in the answer to one question, which ends at `at`."""
    (count,) = struct.unpack_from(">H", answer, 6)
    for _ in range(count):
        # A name is repeated as a pointer to the question, of two bytes.
        kind, _, _, length = struct.unpack_from(">2HIH", answer, at + 2)
        at += 12
        if kind == A:
            yield socket.inet_ntoa(answer[at : at + length])
        at += length
