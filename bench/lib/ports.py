"""Free ports of the loopback."""

import random
import socket

# Below the range from which the system takes ports for outgoing connections, so that no client gets one of these
# between its choice here and its use.
RANGE = range(12000, 30000)
_given = set()


def free_port(hosts=("127.0.0.1",)):
    """One that is free on all `hosts`."""
    while True:
        port = random.choice(RANGE)
        if port not in _given and all(_is_free(host, port) for host in hosts):
            _given.add(port)
            return port


def _is_free(host, port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
