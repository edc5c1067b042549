"""What workers of POTHEAD serve: the stub's answers, in Python."""

import time
from urllib.parse import parse_qs

ANSWER = b"x" * 13


def app(environ, start_response):
    if environ["PATH_INFO"] == "/sleep":
        time.sleep(float(parse_qs(environ["QUERY_STRING"])["s"][0]))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(ANSWER)))])
    return [ANSWER]
