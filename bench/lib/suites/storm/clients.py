"""The hostile clients, and how often in a second each is at work."""

from lib.hostile import (
    Kind,
    asking,
    h2_no_window,
    h2_resets,
    half_body,
    half_head,
    leaving,
    malformed,
    slow_upload,
    tiny_chunks,
    unread,
    websocket,
)

FORGED = "Faucet-Wait: 0\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n"

NATIVE = {
    "leave": Kind(10, leaving("/work", after=0.008)),
    "leave a loop": Kind(1, leaving("/loop", after=0.1)),
    "leave a busy loop": Kind(0.2, leaving("/loop?busy=1", after=0.05)),
    "malformed": Kind(5, malformed),
    "stalled head": Kind(2, half_head),
    "stalled upload": Kind(0.5, half_body),
    "one-byte chunks": Kind(0.5, tiny_chunks),
    "slow upload": Kind(1, slow_upload),
    "unread answer": Kind(0.5, unread("/big")),
    "unread stream": Kind(0.3, unread("/stream")),
    "HTTP/2 resets": Kind(0.5, h2_resets(50)),
    "HTTP/2 without a window": Kind(0.3, h2_no_window("/big")),
    "WebSocket": Kind(1, websocket),
    "turns": Kind(5, asking("/__faucet__/turn")),
    "forged headers": Kind(2, asking("/work", FORGED)),
    "garbage": Kind(1, asking("/garbage")),
    "crash": Kind(0.1, asking("/crash")),
    "quit": Kind(0.05, asking("/crash?how=quit")),
    "abort": Kind(0.05, asking("/crash?how=abort")),
}

# Of these each costs a worker of type `http` TIMEOUT, and its process.
HTTP = {
    **NATIVE,
    "leave a loop": Kind(0.05, leaving("/loop", after=0.1)),
    "leave a busy loop": Kind(0.02, leaving("/loop?busy=1", after=0.05)),
}

HOSTILE = {"native": NATIVE, "http": HTTP}
