"""What is published of the kernel database: for each device class a pointer to shards, named by their content.

Takes a Store; gives ClassViews and the bytes of shards, kept in memory and made anew where the store has changed.
"""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from nnjit.tune.records import COMPILER, Record, canonical_json, encode

from .records_sql import DatabaseError
from .records_store import DIGITS, Store

ONE_SHARD = 512
"""A class with more published records than this is split in sixteen, by the first digit of the spec's key."""
REFRESH_SECONDS = 2.0
"""How long a class's pointer is answered from memory before the database is asked for changes."""
CACHE_BYTES = 32 << 20
CACHE_CLASSES = 128


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


class Published:
    """The classes asked for last, as the store has them now and then; `shipped` records are behind its own, unless the
    store knows better."""

    def __init__(
        self, store: Store, shipped: list[Record], say: Callable[[str], None], clock: Callable[[], float]
    ) -> None:
        self.store, self.say, self.clock = store, say, clock
        self.shipped: dict[str, list[Record]] = {}
        for record in shipped:
            if record.compiler == COMPILER and record.verdict == "timed":
                self.shipped.setdefault(record.device, []).append(record)
        self._views: OrderedDict[str, ClassView] = OrderedDict()
        self._shards: OrderedDict[str, tuple[bytes, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def shard(self, hash: str) -> tuple[bytes, bytes] | None:
        """The bytes with this hash, plain and compressed; None once nothing is published that has it."""
        return self._shards.get(hash)

    def view(self, device: str) -> ClassView:
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
