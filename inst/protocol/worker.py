"""A worker by slot.md alone, for faucet::run_hub(): python3 worker.py HOST:PORT [NAME [ROUTE]]; the token is in FAUCET_TOKEN."""
import json, os, socket, sys, time
from http.server import BaseHTTPRequestHandler

class Worker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path.startswith("/work/"):
            time.sleep(float(self.path[6:]))
        text = json.dumps({"pid": os.getpid(), "path": self.path, "body": body, "headers": dict(self.headers)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Connection", "close" if self.path == "/last" else "keep-alive")
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else text)
    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

def offer(host, port, name="python", route="/"):
    with socket.create_connection((host, port), timeout=5) as slot:
        slot.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in {"KEEPIDLE": 3, "KEEPINTVL": 2, "KEEPCNT": 2, "USER_TIMEOUT": 8000, "NODELAY": 1}.items():
            slot.setsockopt(socket.IPPROTO_TCP, getattr(socket, "TCP_" + option), value)
        slot.sendall((f"GET /slot HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: faucet-slot/1\r\nFaucet-Worker: {name}\r\n"
                      f"Faucet-Route: {route}\r\nAuthorization: Bearer {os.environ.get('FAUCET_TOKEN', '')}\r\n\r\n").encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):  # One byte at a time: what follows may be a request.
            byte = slot.recv(1)
            if not byte:
                raise OSError("The hub has hung up")
            head += byte
        if b" 101 " not in head[:13]:
            raise OSError(head.decode() + slot.recv(4096).decode())
        slot.settimeout(None)
        Worker(slot, (host, port), None)  # Serves until the connection ends.

while True:
    try:
        offer(*sys.argv[1].rsplit(":", 1), *sys.argv[2:])
    except OSError as error:
        print(f"{error}: once more in a second", file=sys.stderr)
        time.sleep(1)
