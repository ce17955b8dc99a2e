"""A server that holds a model back: `/<name>` sends its beginning, and the rest once `/<name>/go` was asked for.

Pieces that are asked for by range come at once, unless the name says otherwise. `cut` never sends the rest, `again` and
`resumes` not the first time: the second time all of it, or what is missing. `stalls` sends nothing more, however long.
"""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.browser.api_page import model

WIDTH, LAYERS = 500, 3


def layers() -> tuple[onnx.ModelProto, list[np.ndarray]]:
    """y = x w0 w1 w2, a megabyte each, of which the first alone comes with the file's beginning."""
    rng = np.random.default_rng(11)
    weights = [rng.normal(0, 0.05, (WIDTH, WIDTH)).astype(np.float32) for _ in range(LAYERS)]
    names = ["x", *(f"h{i}" for i in range(1, LAYERS)), "y"]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(LAYERS)]
    f = TensorProto.FLOAT
    held = {f"w{i}": w for i, w in enumerate(weights)}
    return model(nodes, {"x": (f, ["n", WIDTH])}, {"y": (f, ["n", WIDTH])}, held), weights


class Gate(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    data = b""
    opened: dict[str, threading.Event]
    asked: list[tuple[str, str | None]]
    left: list[str]

    def do_GET(self) -> None:
        name, _, command = self.path.strip("/").partition("/")
        gate = self.opened.setdefault(name, threading.Event())
        if command == "go":
            gate.set()
            self._head(200, 0, "")
            return
        wanted = self.headers.get("Range")
        self.asked.append((name, wanted))
        if wanted and name not in {"whole", "again"}:
            begin, _, last = wanted.removeprefix("bytes=").partition("-")
            if name == "cut" and not last:
                self._hang_up()
                return
            body = self.data[int(begin) : int(last) + 1 if last else None]
            self._head(206, len(body), "Mon, 02" if name == "changed" else "Sun, 01")
            self.wfile.write(body)
            return
        self._head(200, len(self.data), "Sun, 01")
        first = len(self.data) // 3
        try:
            self.wfile.write(self.data[:first])
            gate.wait(None if name == "stalls" else 120)
            whole = [wanted for other, wanted in self.asked if other == name and not wanted]
            if name == "cut" or (name in {"again", "resumes"} and len(whole) == 1 and not wanted):
                self._hang_up()
                return
            self.wfile.write(self.data[first:])
        except OSError:
            self.left.append(name)  # whoever asked has gone
            self.close_connection = True

    def _hang_up(self) -> None:
        self.connection.shutdown(2)
        self.close_connection = True

    def _head(self, status: int, length: int, day: str) -> None:
        self.send_response(status)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Cross-Origin-Resource-Policy", "cross-origin")
        self.send_header("Last-Modified", f"{day} Nov 2026 00:00:00 GMT")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def gated(data: bytes) -> Iterator[tuple[str, type[Gate]]]:
    """(address, what the server has seen)."""
    handler = type("Gated", (Gate,), {"data": data, "opened": {}, "asked": [], "left": []})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    running.daemon_threads = True
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}", handler
    finally:
        for gate in handler.opened.values():
            gate.set()
        running.shutdown()
        running.server_close()
