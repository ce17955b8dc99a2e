"""The kernel database over HTTP: takes a request, returns an answer; httpd.py moves the bytes.

GET  /records/v1/CLASS            which shards a device class has now: small, revalidated by ETag
GET  /records/v1/CLASS/HASH.jsonl one shard: records as JSON lines; named by its content, so immutable
POST /records/v1/report           {"format": 1, "records": [...]}: how schedules did on the sender's machine
"""

from __future__ import annotations

import gzip
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from nnjit.errors import RecordError
from nnjit.tune.device_class import is_device
from nnjit.tune.records import (
    COMPILER,
    MAX_BYTES,
    TARGETS,
    Record,
    canonical_json,
    encode,
    from_json,
    parse_json,
)

from .http_headers import accepts_gzip
from .records_limits import Buckets, network_of
from .records_sql import DatabaseBusy, DatabaseError, DatabaseFull
from .records_store import DIGITS, Store

PREFIX = "/records/v1/"
MAX_BODY = 256 * 1024
MAX_RECORDS = 64
ONE_SHARD = 512
"""A class with more published records than this is split in sixteen, by the first digit of the spec's key."""
REFRESH_SECONDS = 2.0
"""How long a class's pointer is answered from memory before the database is asked for changes."""
CACHE_BYTES = 32 << 20
CACHE_CLASSES = 128
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


@dataclass
class Shard:
    """What is published of a class, or of one digit of it."""

    body: bytes
    count: int
    hash: str = field(init=False)

    def __post_init__(self) -> None:
        self.hash = hashlib.sha256(self.body).hexdigest()[:32]


@dataclass
class ClassView:
    """A class as last read: its shards by digit at which version, and the pointer made of them."""

    checked: float = -1e9
    versions: dict[str, int] = field(default_factory=dict)
    day: int = -1
    parts: dict[str, Shard] = field(default_factory=dict)
    pointer: bytes = b""
    hashes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(len(shard.body) for shard in self.parts.values())


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
        self.shipped: dict[str, list[Record]] = {}
        for record in shipped or []:
            if record.compiler == COMPILER and record.verdict == "timed":
                self.shipped.setdefault(record.device, []).append(record)
        self._views: OrderedDict[str, ClassView] = OrderedDict()
        self._shards: OrderedDict[str, tuple[bytes, bytes]] = OrderedDict()
        self._lock = threading.Lock()
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
        view = self._view(device)
        if not slash:
            return self._pointer(request, view)
        found = self._shards.get(name.removesuffix(".jsonl")) if name.endswith(".jsonl") else None
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

    def _view(self, device: str) -> ClassView:
        """The class as it is now or was REFRESH_SECONDS ago; as it was last seen when the database fails."""
        with self._lock:
            view = self._views.pop(device, None) or ClassView()
            self._views[device] = view
            while len(self._views) > CACHE_CLASSES:
                self._views.popitem(last=False)
            if self.clock() - view.checked < REFRESH_SECONDS:
                return view
            view.checked = self.clock()
            try:
                self._refresh(device, view)
            except DatabaseError as error:
                self.say(f"records: {error}")
                if not view.pointer:
                    parts = {d: self._shard(device, d, []) for d in DIGITS}
                    self._publish(view, {d: s for d, s in parts.items() if s.count})
            held = sum(v.bytes for v in self._views.values())
            while held > CACHE_BYTES and len(self._views) > 1:
                held -= self._views.popitem(last=False)[1].bytes
            return view

    def _refresh(self, device: str, view: ClassView) -> None:
        versions, day = self.store.versions(device), self.store.day
        unchanged = view.pointer and versions == view.versions and day == view.day
        if unchanged and all(hash in self._shards for hash in view.hashes):
            return
        digits = set(versions) | {r.key[0] for r in self.shipped.get(device, [])}
        for digit in sorted(digits):
            stale = versions.get(digit) != view.versions.get(digit) or day != view.day
            if stale or digit not in view.parts:
                best = [record for record, _ in self.store.best(device, digit)] if digit in versions else []
                view.parts[digit] = self._shard(device, digit, best)
        view.parts = {d: s for d, s in view.parts.items() if d in digits and s.count}
        view.versions, view.day = versions, day
        self._publish(view, view.parts)

    def _shard(self, device: str, digit: str, best: list[Record]) -> Shard:
        """Lines of the store's records, and of the shipped ones behind them where it does not have the schedule."""
        known = {(r.key, r.schedule) for r in best}
        more = [
            r for r in self.shipped.get(device, []) if r.key[0] == digit and (r.key, r.schedule) not in known
        ]
        ordered = sorted([*best, *more], key=lambda r: r.key)
        return Shard("".join(encode(r) + "\n" for r in ordered).encode(), len(ordered))

    def _publish(self, view: ClassView, parts: dict[str, Shard]) -> None:
        if sum(s.count for s in parts.values()) <= ONE_SHARD:
            whole = Shard(
                b"".join(parts[d].body for d in sorted(parts)), sum(s.count for s in parts.values())
            )
            parts = {"": whole} if whole.count else {}
        shards = {d: {"hash": s.hash, "bytes": len(s.body), "count": s.count} for d, s in parts.items()}
        view.pointer = (canonical_json({"format": 1, "shards": shards}) + "\n").encode()
        view.hashes = tuple(s.hash for s in parts.values())
        for shard in parts.values():
            kept = self._shards.pop(shard.hash, None)
            self._shards[shard.hash] = kept or (shard.body, gzip.compress(shard.body, 6, mtime=0))
        total = sum(len(plain) + len(packed) for plain, packed in self._shards.values())
        while total > CACHE_BYTES and len(self._shards) > len(parts):
            total -= sum(map(len, self._shards.popitem(last=False)[1]))

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
