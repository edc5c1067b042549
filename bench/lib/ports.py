"""Free ports of the loopback."""

import random
import socket

# Below the range from which the system takes ports for outgoing connections, so that no client gets one of these
# between its choice here and its use.
RANGE = range(12000, 30000)
_given = set()


def free_port():
    while True:
        port = random.choice(RANGE)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
