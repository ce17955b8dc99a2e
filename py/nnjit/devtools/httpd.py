"""The HTTP server of the page: takes a Site, answers GET and HEAD; under /records/ the kernel database answers.

Cross-origin isolation (COOP, COEP, CORP) is on every answer, because without it the page has no shared
memory. Files whose content is pinned or named by hash are immutable; the rest is revalidated by ETag.
"""

from __future__ import annotations

import errno
import http.server
import socket
import socketserver
import sys
import threading
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import IO, Any
from urllib.parse import urlsplit

from .http_headers import accepts_gzip
from .lock import SetupError
from .records_api import PREFIX, Answer, RecordsApi, Request
from .site import Content, Site

ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
IMMUTABLE = "public, max-age=31536000, immutable"
BLOCK = 1 << 16
SEND = 1 << 20
"""Bytes written at a time: between two writes another thread's request has to be given its turn."""
BODY_SECONDS = 10.0


class RangeError(ValueError):
    """The range asked for has no byte in common with the file."""


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte of `bytes=a-b`, `bytes=a-` or `bytes=-n` (RFC 9110, 14.1.2).

    None when the header is to be ignored (another unit, several ranges, no number); RangeError when it
    cannot be satisfied.
    """
    unit, _, spec = header.partition("=")
    first, dash, last = spec.strip().partition("-")
    numbers = (first + last).isascii() and (first + last).isdigit()
    if unit.strip().lower() != "bytes" or not dash or "," in spec or not numbers:
        return None
    if not first:
        if int(last) == 0:
            raise RangeError
        return max(0, size - int(last)), size - 1
    start, stop = int(first), int(last) if last else size - 1
    if last and stop < start:
        return None
    if start >= size:
        raise RangeError
    return start, min(stop, size - 1)


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection; `server.site` says what a path is."""

    protocol_version = "HTTP/1.1"
    server_version = "nnjit"
    sys_version = ""
    timeout = 60
    disable_nagle_algorithm = (
        True  # headers and body are two writes: the second would wait for the first's ACK
    )
    server: Server

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_POST(self) -> None:
        self._records("POST")

    def do_OPTIONS(self) -> None:
        self._records("OPTIONS")

    def __getattr__(self, name: str) -> Any:
        # http.server looks up do_METHOD; every other method exists here, as a refusal
        if name.startswith("do_"):
            return self._not_allowed
        raise AttributeError(name)

    def _not_allowed(self) -> None:
        self.close_connection = True  # an unread request body must not be taken for the next request
        self._message(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD", {"Allow": "GET, HEAD"})

    def _records(self, method: str) -> None:
        """What the kernel database answers; without one, or elsewhere, as for any other method."""
        records = self.server.records
        if records is None or not self.path.startswith(PREFIX):
            self._not_allowed()
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(method, urlsplit(self.path).path, headers, self.client_address[0], self._body)
        answer = records.answer(request)
        self.close_connection = self.close_connection or answer.unread
        self._whole(answer, method != "HEAD")

    def _body(self, count: int) -> bytes:
        """The request's body; OSError when it does not come within BODY_SECONDS."""
        deadline, parts = time.monotonic() + BODY_SECONDS, []
        try:
            while count > 0:
                self.connection.settimeout(max(0.01, deadline - time.monotonic()))
                part = self.rfile.read1(min(count, BLOCK))
                if not part:
                    break
                parts.append(part)
                count -= len(part)
                if time.monotonic() > deadline:
                    raise TimeoutError("the body came too slowly")
        finally:
            self.connection.settimeout(self.timeout)
        return b"".join(parts)

    def _whole(self, answer: Answer, body: bool) -> None:
        length = (
            None if answer.status in (HTTPStatus.NOT_MODIFIED, HTTPStatus.NO_CONTENT) else len(answer.body)
        )
        closing = {"Connection": "close"} if self.close_connection else {}
        self._head(answer.status, {**answer.headers, **closing}, length)
        if body:
            self.wfile.write(answer.body)

    def _answer(self, body: bool) -> None:
        if self.server.records is not None and self.path.startswith(PREFIX):
            self._records("GET" if body else "HEAD")
            return
        content = self.server.site.find(urlsplit(self.path).path)
        if content is None:
            self._message(HTTPStatus.NOT_FOUND, "not found", body=body)
        elif content.refused:
            self._message(HTTPStatus.INTERNAL_SERVER_ERROR, content.refused, body=body)
        else:
            self._send(content, body)

    def _send(self, content: Content, body: bool) -> None:
        etag, size, range_header = content.etag, content.size, self.headers.get("Range")
        headers = {"Cache-Control": IMMUTABLE if content.immutable else "no-cache"}
        packed = None
        if content.compressible:
            headers["Vary"] = "Accept-Encoding"
            if not range_header and accepts_gzip(self.headers.get("Accept-Encoding", "")):
                packed = self.server.site.gzipped(content)
        if packed is not None:
            etag, size = etag[:-1] + '-gz"', packed.stat().st_size
            headers["Content-Encoding"] = "gzip"
        else:
            headers["Accept-Ranges"] = "bytes"
        headers["ETag"] = etag
        headers["Last-Modified"] = formatdate(content.modified, usegmt=True)
        if self._unchanged(content):
            self._head(HTTPStatus.NOT_MODIFIED, headers, None)
            return
        headers["Content-Type"] = content.type
        start, stop, status = 0, size - 1, HTTPStatus.OK
        if range_header and self.headers.get("If-Range", etag) == etag:
            try:
                wanted = parse_range(range_header, size)
            except RangeError:
                headers["Content-Range"] = f"bytes */{size}"
                self._message(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "no such bytes", headers, body)
                return
            if wanted is not None:
                start, stop = wanted
                status = HTTPStatus.PARTIAL_CONTENT
                headers["Content-Range"] = f"bytes {start}-{stop}/{size}"
        self._head(status, headers, stop - start + 1)
        if body:
            source = packed.open("rb") if packed is not None else content.open()
            with source:
                self._copy(source, start, stop - start + 1)

    def _unchanged(self, content: Content) -> bool:
        tags = [tag.strip().removeprefix("W/") for tag in self.headers.get("If-None-Match", "").split(",")]
        return "*" in tags or content.etag in tags or content.etag[:-1] + '-gz"' in tags

    def _copy(self, source: IO[bytes], start: int, count: int) -> None:
        source.seek(start)
        while count > 0 and (block := source.read(min(SEND, count))):
            self.wfile.write(block)
            count -= len(block)
        if count:
            self.close_connection = True  # the file shrank under us: the client must see a short answer

    def _message(
        self, status: HTTPStatus, text: str, headers: dict[str, str] | None = None, body: bool = True
    ) -> None:
        data = (text + "\n").encode()
        always = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": "no-store"}
        self._head(status, {**always, **(headers or {}), "Content-Type": always["Content-Type"]}, len(data))
        if body:
            self.wfile.write(data)

    def _head(self, status: HTTPStatus, headers: dict[str, str], length: int | None) -> None:
        self.send_response(status)
        for name, value in {**ISOLATION, **headers}.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server answers by itself (a malformed request) carries the same headers."""
        self.close_connection = True
        self.request_version = self.protocol_version  # else a request line it cannot read means HTTP/0.9
        self._message(HTTPStatus(code), message or HTTPStatus(code).phrase, {"Connection": "close"})

    def log_message(self, format: str, *args: Any) -> None:
        if self.server.verbose:
            sys.stderr.write(f"{self.log_date_time_string()} {format % args}\n")


class Server(http.server.ThreadingHTTPServer):
    """Serves a Site on host:port; port 0 lets the system pick. SetupError when the port cannot be had."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        site: Site,
        host: str = "127.0.0.1",
        port: int = 0,
        verbose: bool = False,
        records: RecordsApi | None = None,
    ) -> None:
        self.site = site
        self.records = records
        self.verbose = verbose
        # on Windows this option would let two servers share the port
        self.allow_reuse_address = sys.platform != "win32"
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            raise SetupError(port_message(host, port, error)) from error

    @property
    def url(self) -> str:
        host, port = self.server_address[0], self.server_address[1]
        name = f"[{host!s}]" if ":" in str(host) else str(host)
        if name in {"0.0.0.0", "[::]"}:
            name = "127.0.0.1"
        return f"http://{name}:{port}/"

    def server_bind(self) -> None:
        # HTTPServer.server_bind looks the host up in DNS, which can take seconds; nothing here needs it
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that closes a connection early is no error."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)

    def start(self) -> threading.Thread:
        """Serve in a thread of its own, until shutdown()."""
        thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        return thread


def port_message(host: str, port: int, error: OSError) -> str:
    """What to tell when the address cannot be listened on, with the next step."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is taken: another program, perhaps another serve.py, listens there.\n"
            f"Open http://{host}:{port}/ to see whether it is nnjit, or pick another port:\n"
            f"  python3 serve.py --port {port + 1}\n"
            f"  python3 serve.py --port 0        (any free one)"
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than you have; try python3 serve.py --port 8000"
    return f"cannot listen on {host}:{port}: {error.strerror or error}; try --host 127.0.0.1"
