# What workers of POTHEAD serve: WSGI, in the forms that its answers can have.
import json
import os
import time


def app(environ, start_response):
    path = environ["PATH_INFO"]
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if path == "/echo":
        body = environ["wsgi.input"].read(length)
        start_response("200 OK", [("Content-Type", environ.get("CONTENT_TYPE", "")), ("Content-Length", str(len(body)))])
        return [body]
    if path == "/length":
        # Reads it bit by bit, and answers without a length.
        left = length
        while left:
            left -= len(environ["wsgi.input"].read(min(left, 65536)))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(length).encode()]
    if path == "/large":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return (b"0123456789abcdef" * 4096 for _ in range(int(environ["QUERY_STRING"])))
    if path == "/teapot":
        start_response("418 Short And Stout", [("X-Pot", "head"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return [b"no coffee"]
    if path == "/none":
        start_response("204 No Content", [])
        return []
    if path == "/unread":
        start_response("413 Too Large", [("Content-Length", "0")])
        return []
    if path == "/work":
        time.sleep(float(environ["QUERY_STRING"].split("&")[0]))
    elif path == "/error":
        raise RuntimeError("no luck")
    elif path != "/pid":
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"there is no " + path.encode()]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid()}).encode()]
