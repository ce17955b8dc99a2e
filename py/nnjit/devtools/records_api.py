"""The kernel database over HTTP: takes a request, returns an answer; httpd.py moves the bytes.

GET  /records/v1/CLASS            which shards a device class has now: small, revalidated by ETag
GET  /records/v1/CLASS/HASH.jsonl one shard: records as JSON lines; named by its content, so immutable
POST /records/v1/report           {"format": 1, "records": [...]}: how schedules did on the sender's machine
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from nnjit.errors import RecordError
from nnjit.tune.device_class import is_device
from nnjit.tune.records import (
    MAX_BYTES,
    TARGETS,
    Record,
    canonical_json,
    from_json,
    parse_json,
)

from .http_headers import accepts_gzip
from .records_limits import Buckets, network_of
from .records_published import ClassView, Published
from .records_sql import DatabaseBusy, DatabaseError, DatabaseFull
from .records_store import Store

PREFIX = "/records/v1/"
MAX_BODY = 256 * 1024
MAX_RECORDS = 64
WRITERS = 4
PATIENCE_SECONDS = 1.0
"""How long a report waits while WRITERS others are written."""
IMMUTABLE = "public, max-age=31536000, immutable"
ANYONE = {"Access-Control-Allow-Origin": "*"}


@dataclass(frozen=True)
class Rates:
    """Tokens a second and burst, for each network: GETs, POSTs, and records in POSTs."""

    reads: tuple[float, float] = (50, 500)
    reports: tuple[float, float] = (2, 60)
    records: tuple[float, float] = (10, 1000)


@dataclass(frozen=True)
class Request:
    """`headers` by lower-case name; `read` gives the body, as many bytes as asked for, or raises OSError."""

    method: str
    path: str
    headers: Mapping[str, str]
    address: str
    read: Callable[[int], bytes] = lambda count: b""


@dataclass(frozen=True)
class Answer:
    """`unread`: the request's body was left where it is, so the connection cannot go on."""

    status: HTTPStatus
    headers: dict[str, str]
    body: bytes = b""
    unread: bool = False


class ApiError(Exception):
    """A refusal: {"error": {"code", "message", "hint"}} with this status."""

    def __init__(
        self, status: HTTPStatus, code: str, message: str, hint: str = "", wait: float = 0, **headers: str
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.hint = status, code, message, hint
        self.headers = {k.replace("_", "-"): v for k, v in headers.items()}
        if wait:
            self.headers["Retry-After"] = str(max(1, round(wait + 0.5)))


class RecordsApi:
    """`shipped` records are published as they are, unless the store knows better."""

    def __init__(
        self,
        store: Store,
        shipped: list[Record] | None = None,
        say: Callable[[str], None] = lambda text: None,
        forwarded: bool = False,
        rates: Rates | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.say, self.forwarded, self.clock = store, say, forwarded, clock
        rates = rates or Rates()
        self.reads, self.reports, self.records = (
            Buckets(*pair, clock=clock) for pair in (rates.reads, rates.reports, rates.records)
        )
        self.published = Published(store, shipped or [], say, clock)
        self._writers = threading.BoundedSemaphore(WRITERS)

    def answer(self, request: Request) -> Answer:
        """Never raises: a refusal is an answer too."""
        unread = request.method == "POST"
        try:
            if request.method == "POST":
                body = self._body(request)
                unread = False
                return self._report(request, body)
            return self._get(request)
        except ApiError as error:
            content = {"code": error.code, "message": error.message, "hint": error.hint}
            headers = {"Cache-Control": "no-store", **error.headers}
            return _json(error.status, {"error": content}, headers, unread)

    # ---- reading ----

    def _get(self, request: Request) -> Answer:
        if request.method == "OPTIONS":
            allowed = {
                "Access-Control-Allow-Methods": "GET, HEAD, POST",
                "Access-Control-Allow-Headers": "Content-Type",
                "Access-Control-Max-Age": "86400",
            }
            return Answer(HTTPStatus.NO_CONTENT, {**ANYONE, **allowed, "Content-Length": "0"})
        if request.method not in ("GET", "HEAD"):
            raise ApiError(
                HTTPStatus.METHOD_NOT_ALLOWED, "METHOD", "GET, HEAD or POST", Allow="GET, HEAD, POST"
            )
        self._allow(self.reads, request, 1)
        device, slash, name = request.path.removeprefix(PREFIX).partition("/")
        if not any(is_device(device, target) for target in TARGETS):
            raise ApiError(
                HTTPStatus.NOT_FOUND, "NOT_FOUND", "no such device class", "docs/records.md lists them"
            )
        view = self.published.view(device)
        if not slash:
            return self._pointer(request, view)
        found = self.published.shard(name.removesuffix(".jsonl")) if name.endswith(".jsonl") else None
        if found is None:
            raise ApiError(
                HTTPStatus.NOT_FOUND, "NOT_FOUND", "no such shard now", "read the class's pointer again"
            )
        headers = {**ANYONE, "Cache-Control": IMMUTABLE, "Content-Type": "application/x-ndjson"}
        headers["Vary"] = "Accept-Encoding"
        plain, packed = found
        if accepts_gzip(request.headers.get("accept-encoding", "")) and len(packed) < len(plain):
            return Answer(HTTPStatus.OK, {**headers, "Content-Encoding": "gzip"}, packed)
        return Answer(HTTPStatus.OK, headers, plain)

    def _pointer(self, request: Request, view: ClassView) -> Answer:
        etag = f'"{hashlib.sha256(view.pointer).hexdigest()[:32]}"'
        headers = {"Cache-Control": "no-cache", "Content-Type": "application/json", "ETag": etag}
        tags = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if etag in tags:
            return Answer(HTTPStatus.NOT_MODIFIED, {**ANYONE, **headers})
        return Answer(HTTPStatus.OK, {**ANYONE, **headers}, view.pointer)

    # ---- reporting ----

    def _body(self, request: Request) -> bytes:
        if request.path != PREFIX + "report":
            raise ApiError(HTTPStatus.NOT_FOUND, "NOT_FOUND", "reports go to " + PREFIX + "report")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "MEDIA_TYPE", "a report is application/json")
        length = request.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()) or request.headers.get("transfer-encoding"):
            raise ApiError(HTTPStatus.LENGTH_REQUIRED, "LENGTH", "a report needs a Content-Length")
        if int(length[:12]) > MAX_BODY:
            hint = f"send at most {MAX_RECORDS} records at once"
            raise ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "TOO_LARGE", f"over {MAX_BODY} bytes", hint)
        self._allow(self.reports, request, 1)
        try:
            data = request.read(int(length))
        except OSError as error:
            raise ApiError(HTTPStatus.REQUEST_TIMEOUT, "TIMEOUT", "the body did not come") from error
        if len(data) < int(length):
            raise ApiError(HTTPStatus.BAD_REQUEST, "RECORD", "the body is shorter than its Content-Length")
        return data

    def _report(self, request: Request, body: bytes) -> Answer:
        items = _items(body)
        self._allow(self.records, request, len(items))
        records: list[tuple[int, Record]] = []
        refused: list[dict[str, Any]] = []
        for i, item in enumerate(items):
            try:
                if len(canonical_json(item)) > MAX_BYTES:
                    raise RecordError(f"a record has at most {MAX_BYTES} bytes")
                records.append((i, from_json(item)))
            except RecordError as error:
                refused.append({"index": i, "code": error.code, "message": error.message})
        if not records and refused:
            first = refused[0]["message"]
            raise ApiError(
                HTTPStatus.BAD_REQUEST, "RECORD", f"none of the records is one; the first: {first}"
            )
        outcomes = self._store(self._network(request), [record for _, record in records])
        for (i, _), outcome in zip(records, outcomes, strict=True):
            if outcome != "kept":
                refused.append({"index": i, "code": outcome.upper(), "message": "not kept"})
        answer = {"kept": outcomes.count("kept"), "refused": sorted(refused, key=lambda r: int(r["index"]))}
        return _json(HTTPStatus.OK, answer, {"Cache-Control": "no-store"})

    def _store(self, network: str, records: list[Record]) -> list[str]:
        if not self._writers.acquire(timeout=PATIENCE_SECONDS):
            raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "BUSY", "too many reports at once", wait=1)
        try:
            return self.store.report(network, records)
        except DatabaseFull as error:
            self.say(f"records: {error}")
            raise ApiError(HTTPStatus.INSUFFICIENT_STORAGE, "FULL", "no room for reports now") from error
        except DatabaseBusy as error:
            raise ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE, "BUSY", "the records are in use", wait=2
            ) from error
        except DatabaseError as error:
            self.say(f"records: {error}")
            raise ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE", "the records cannot be reached", wait=30
            ) from error
        finally:
            self._writers.release()

    # ---- who asks ----

    def _network(self, request: Request) -> str:
        address = request.address
        if self.forwarded:  # the proxy in front adds the address it saw at the end
            address = request.headers.get("x-forwarded-for", address).rpartition(",")[2].strip()
        return network_of(address)

    def _allow(self, buckets: Buckets, request: Request, tokens: float) -> None:
        wait = buckets.take(self._network(request), tokens)
        if wait:
            raise ApiError(
                HTTPStatus.TOO_MANY_REQUESTS, "RATE", "too many requests from your network", wait=wait
            )


def _items(body: bytes) -> list[object]:
    try:
        value = parse_json(body)
    except RecordError as error:
        raise ApiError(HTTPStatus.BAD_REQUEST, "RECORD", error.message) from error
    if not isinstance(value, dict) or set(value) != {"format", "records"} or value["format"] != 1:
        raise ApiError(HTTPStatus.BAD_REQUEST, "RECORD", 'a report is {"format": 1, "records": [...]}')
    items = value["records"]
    if not isinstance(items, list) or not 0 < len(items) <= MAX_RECORDS:
        raise ApiError(HTTPStatus.BAD_REQUEST, "RECORD", f"a report has 1 to {MAX_RECORDS} records")
    return items


def _json(status: HTTPStatus, value: object, headers: dict[str, str], unread: bool = False) -> Answer:
    body = (canonical_json(value) + "\n").encode()
    return Answer(status, {**ANYONE, "Content-Type": "application/json", **headers}, body, unread)
