"""A wire to an HTTP server that loses answers, or gives those of a store in trouble."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Fault = Literal["lose the answer", "busy", "expired"]
Rule = Callable[[str, str, Mapping[str, str]], Fault | None]
"""Method, path and headers of a request -> what goes wrong with it."""

ERRORS = {
    "busy": (503, "SlowDown", "Please reduce your request rate."),
    "expired": (403, "ExpiredToken", "The provided token has expired."),
}


@contextmanager
def faulty_wire(server_port: int, rule: Rule) -> Iterator[int]:
    """Give the port of a wire; what goes through it reaches the server unless a rule says no."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = rule(self.command, self.path, self.headers)
            if fault in ERRORS:
                self.refuse(*ERRORS[fault])
                return
            there = http.client.HTTPConnection("127.0.0.1", server_port)
            there.request(self.command, self.path, body, dict(self.headers))
            answer = there.getresponse()
            content = answer.read()
            there.close()
            if fault == "lose the answer":
                self.close_connection = True
                self.connection.shutdown(2)
                return
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding"):
                    self.send_header(name, value)
            if answer.getheader("Content-Length") is None:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = relay

        def refuse(self, status: int, code: str, message: str) -> None:
            content = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
