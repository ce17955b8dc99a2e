"""The kernel database: takes reports of records, keeps votes within limits, gives the best known of each class.

    store = Store(SqliteDatabase(path, say))
    store.report("198.51.100.0/24", [record])      -> ["kept"]
    store.best("wasm.v8-150....", "a")             -> records of the specs whose key begins with "a", best first

A network is never stored: what is, is its HMAC under a salt that is thrown away when its epoch ends.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from nnjit.errors import RecordError
from nnjit.tune import schedules
from nnjit.tune.records import COMPILER, FORMAT, Record, canonical_json, from_json, parse_json

from .records_rank import (
    EPOCH_SECONDS,
    EPOCHS,
    FAILED,
    QUORUM,
    WORTH,
    Entry,
    Standing,
    Vote,
    choose,
    standing,
    worst_first,
)
from .records_sql import Database

DIGITS = "0123456789abcdef"
DAY = 24 * 3600
RECOUNT = 200


@dataclass(frozen=True)
class Limits:
    """How much the store holds. Where one is reached the worst gives way; if all there is is better, the new one."""

    classes: int = 512
    specs_of_class: int = 4096
    entries_of_spec: int = 8
    votes_of_epoch: int = 64  # of one entry
    entries: int = 100_000
    new_of_spec: int = 2  # unconfirmed entries of one spec that one network has begun in this epoch
    new_of_class: int = 512  # unconfirmed entries of one class that one network has begun in this epoch


class Store:
    """Thread-safe. Raises records_sql's errors; a report is one transaction."""

    def __init__(
        self,
        database: Database,
        limits: Limits | None = None,
        quorum: int = QUORUM,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database, self.limits, self.quorum, self.clock = database, limits or Limits(), quorum, clock
        self._lock = threading.RLock()
        self._total, self._uncounted = -1, 0

    @property
    def epoch(self) -> int:
        return int(self.clock() // EPOCH_SECONDS)

    @property
    def day(self) -> int:
        return int(self.clock() // DAY)

    def report(self, network: str, records: Sequence[Record]) -> list[str]:
        """Counts each record as the network's vote. For each: "kept", or why not.

        version: of another compiler. slow, failed: not known here, and no better than the default. quota: this
        network has begun too many. full: all that is there is better founded.
        """
        with self._lock, self.database.transaction():
            reporter = self._reporter(network)
            self._settle()
            return [self._one(reporter, record) for record in records]

    def versions(self, device: str) -> dict[str, int]:
        """Of each shard of a class that has entries, a number that grows with every change."""
        with self._lock:
            rows = self.database.query("SELECT digit, version FROM shards WHERE device = ?", device)
        return {str(digit): int(version) for digit, version in rows}

    def best(self, device: str, digit: str) -> list[tuple[Record, Standing]]:
        """The published records of a shard, ordered by spec key, best first for each."""
        with self._lock:
            rows = self.database.query(
                "SELECT id, entries.key, score, reporters, confirmed, device, text, schedule, timing FROM entries"
                " JOIN specs ON specs.key = entries.key"
                " WHERE device = ? AND digit = ? AND compiler = ? ORDER BY entries.key, id",
                *(device, digit, COMPILER),
            )
        found: list[tuple[Record, Standing]] = []
        for _, group in groupby(rows, key=lambda row: row[1]):
            by_id = {row[0]: row for row in group}
            for e in choose(map(_entry, by_id.values()), self.day):
                record = _record(by_id[e.id][1], *by_id[e.id][5:])
                if record is not None:
                    found.append((record, e.standing))
        return found

    def devices(self) -> list[str]:
        """The classes there are, by name."""
        with self._lock:
            return [row[0] for row in self.database.query("SELECT device FROM classes ORDER BY device")]

    def counts(self) -> dict[str, int]:
        """How many classes, specs, entries and votes there are."""
        names = {"classes": "classes", "specs": "specs", "entries": "entries", "votes": "votes"}
        with self._lock:
            return {k: int(self.database.query(f"SELECT COUNT(*) FROM {t}")[0][0]) for k, t in names.items()}

    # ---- one vote ----

    def _one(self, reporter: str, r: Record) -> str:
        if r.compiler != COMPILER:
            return "version"
        identity = entry_id(r)
        known = self.database.query("SELECT 1 FROM entries WHERE id = ?", identity)
        if not known:
            slow = "slow" if r.verdict == "timed" else "failed"
            refused = slow if r.ratio > WORTH else self._make_room(reporter, r)
            if refused:
                return refused
            self._insert(identity, reporter, r)
        self._vote(identity, reporter, r)
        self._rank(identity)
        now = self.clock()
        self.database.query("UPDATE classes SET touched = ? WHERE device = ?", now, r.device)
        self.database.query(
            "UPDATE class_specs SET touched = ? WHERE device = ? AND key = ?", now, r.device, r.key
        )
        return "kept"

    def _vote(self, identity: str, reporter: str, r: Record) -> None:
        """The reporter's vote in this epoch, in place of an earlier one; the oldest gives way in a full epoch."""
        epoch = self.epoch
        both = {k: v for k, v in r.to_json().items() if k in ("time", "default")}
        self.database.query(
            "INSERT INTO votes (entry, epoch, reporter, ratio, timing, at) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (entry, epoch, reporter) DO UPDATE"
            " SET ratio = excluded.ratio, timing = excluded.timing, at = excluded.at",
            *(identity, epoch, reporter, min(r.ratio, FAILED), canonical_json(both), self.clock()),
        )
        self.database.query(
            "DELETE FROM votes WHERE entry = ? AND epoch = ? AND reporter NOT IN (SELECT reporter FROM votes"
            " WHERE entry = ? AND epoch = ? ORDER BY at DESC, reporter LIMIT ?)",
            *(identity, epoch, identity, epoch, self.limits.votes_of_epoch),
        )

    def _rank(self, identity: str) -> None:
        """Writes the entry's standing and, of the vote nearest to it, the times; an entry without votes goes."""
        rows = self.database.query(
            "SELECT epoch, reporter, ratio, timing FROM votes WHERE entry = ? AND epoch > ?",
            *(identity, self.epoch - EPOCHS),
        )
        place = self.database.query("SELECT device, digit FROM entries WHERE id = ?", identity)
        if not rows:
            self._delete(identity)
        else:
            s = standing([Vote(*row[:3]) for row in rows], self.epoch, self.quorum)
            shown = min(rows, key=lambda row: (abs(row[2] - s.score), row[1]))[3]
            self.database.query(
                "UPDATE entries SET score = ?, reporters = ?, confirmed = ?, timing = ?, settled = ? WHERE id = ?",
                *(s.score, s.reporters, int(s.confirmed), shown, self.epoch, identity),
            )
        for device, digit in place:
            self._changed(device, digit)

    def _changed(self, device: str, digit: str) -> None:
        self.database.query(
            "INSERT INTO shards (device, digit, version) VALUES (?, ?, 1)"
            " ON CONFLICT (device, digit) DO UPDATE SET version = shards.version + 1",
            *(device, digit),
        )

    # ---- entries, within limits ----

    def _insert(self, identity: str, reporter: str, r: Record) -> None:
        now = self.clock()
        author = f"{self.epoch} {reporter}"
        q = self.database.query
        q("INSERT INTO specs (key, text) VALUES (?, ?) ON CONFLICT (key) DO NOTHING", r.key, r.spec)
        q(
            "INSERT INTO classes (device, touched) VALUES (?, ?) ON CONFLICT (device) DO NOTHING",
            r.device,
            now,
        )
        q(
            "INSERT INTO class_specs (device, key, touched, author) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (device, key) DO NOTHING",
            *(r.device, r.key, now, author),
        )
        q(
            "INSERT INTO entries (id, device, key, digit, compiler, schedule, author, settled, score, reporters,"
            " confirmed, timing) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, '')",
            *(identity, r.device, r.key, r.key[0], r.compiler),
            *(canonical_json(schedules.to_json(r.schedule)), author, self.epoch, FAILED),
        )
        self._uncounted += 1

    def _make_room(self, reporter: str, r: Record) -> str:
        """ "" when an entry may be added (a worse one may have gone), else why not."""
        author = f"{self.epoch} {reporter}"
        if (
            self._count("entries WHERE device = ? AND author = ? AND confirmed = 0", r.device, author)
            >= self.limits.new_of_class
        ):
            return "quota"
        here = "entries WHERE device = ? AND key = ?"
        if (
            self._count(f"{here} AND author = ? AND confirmed = 0", r.device, r.key, author)
            >= self.limits.new_of_spec
        ):
            return "quota"
        if self._count(here, r.device, r.key) >= self.limits.entries_of_spec:
            rows = self.database.query(
                f"SELECT id, key, score, reporters, confirmed FROM {here}", r.device, r.key
            )
            if not self._give_way([_entry(row) for row in rows]):
                return "full"
        if self._entries() >= self.limits.entries:
            rows = self.database.query(
                "SELECT id, key, score, reporters, confirmed FROM entries WHERE confirmed = 0"
                " ORDER BY reporters LIMIT 8"
            )
            if not self._give_way([_entry(row) for row in rows]):
                return "full"
        known = self._count("class_specs WHERE device = ? AND key = ?", r.device, r.key)
        specs = self._count("class_specs WHERE device = ?", r.device)
        if not known and specs >= self.limits.specs_of_class and not self._drop_spec(r.device):
            return "full"
        known = self._count("classes WHERE device = ?", r.device)
        if not known and self._count("classes") >= self.limits.classes and not self._drop_class():
            return "full"
        return ""

    def _give_way(self, entries: list[Entry]) -> bool:
        """Deletes the worst of the entries, unless all are confirmed."""
        worst = worst_first(entries, self.day)[:1]
        if not worst or worst[0].standing.confirmed:
            return False
        place = self.database.query("SELECT device, digit FROM entries WHERE id = ?", worst[0].id)
        self._delete(worst[0].id)
        for device, digit in place:
            self._changed(device, digit)
        return True

    def _drop_spec(self, device: str) -> bool:
        """Deletes the spec of a class that was reported longest ago and of which nothing is confirmed."""
        rows = self.database.query(
            "SELECT key FROM class_specs WHERE device = ? AND NOT EXISTS (SELECT 1 FROM entries WHERE"
            " entries.device = class_specs.device AND entries.key = class_specs.key AND confirmed = 1)"
            " ORDER BY touched, key LIMIT 1",
            device,
        )
        for (key,) in rows:
            for (identity,) in self.database.query(
                "SELECT id FROM entries WHERE device = ? AND key = ?", device, key
            ):
                self._delete(identity)
            self._forget_spec(device, key)
            self._changed(device, key[0])
        return bool(rows)

    def _drop_class(self) -> bool:
        rows = self.database.query(
            "SELECT device FROM classes WHERE NOT EXISTS (SELECT 1 FROM entries"
            " WHERE entries.device = classes.device AND confirmed = 1) ORDER BY touched, device LIMIT 1"
        )
        for (device,) in rows:
            for (identity,) in self.database.query("SELECT id FROM entries WHERE device = ?", device):
                self._delete(identity)
            for (key,) in self.database.query("SELECT key FROM class_specs WHERE device = ?", device):
                self._forget_spec(device, key)
            self.database.query("DELETE FROM shards WHERE device = ?", device)
            self.database.query("DELETE FROM classes WHERE device = ?", device)
        return bool(rows)

    def _delete(self, identity: str) -> None:
        """An entry and its votes; its spec too when that was the last of it."""
        for device, key in self.database.query("SELECT device, key FROM entries WHERE id = ?", identity):
            self.database.query("DELETE FROM votes WHERE entry = ?", identity)
            self.database.query("DELETE FROM entries WHERE id = ?", identity)
            self._uncounted -= 1
            if not self._count("entries WHERE device = ? AND key = ?", device, key):
                self._forget_spec(device, key)

    def _forget_spec(self, device: str, key: str) -> None:
        self.database.query("DELETE FROM class_specs WHERE device = ? AND key = ?", device, key)
        if not self._count("class_specs WHERE key = ?", key):
            self.database.query("DELETE FROM specs WHERE key = ?", key)

    def _entries(self) -> int:
        """How many entries there are, counted anew every so often: other processes add some too."""
        if self._total < 0 or abs(self._uncounted) >= RECOUNT:
            self._total, self._uncounted = self._count("entries"), 0
        return self._total + self._uncounted

    def _count(self, what: str, *values: Any) -> int:
        return int(self.database.query(f"SELECT COUNT(*) FROM {what}", *values)[0][0])

    # ---- epochs ----

    def _reporter(self, network: str) -> str:
        """The network under this epoch's salt; the salts of other epochs are deleted."""
        epoch = self.epoch
        self.database.query("DELETE FROM salts WHERE epoch <> ?", epoch)
        self.database.query(
            "INSERT INTO salts (epoch, salt) VALUES (?, ?) ON CONFLICT (epoch) DO NOTHING",
            *(epoch, secrets.token_hex(32)),
        )
        salt = self.database.query("SELECT salt FROM salts WHERE epoch = ?", epoch)[0][0]
        return hmac.new(bytes.fromhex(salt), network.encode(), hashlib.sha256).hexdigest()[:16]

    def _settle(self, batch: int = 200) -> None:
        """Ranks some entries anew that were last ranked in an earlier epoch: old votes weigh less now."""
        self.database.query("DELETE FROM votes WHERE epoch <= ?", self.epoch - EPOCHS)
        for (identity,) in self.database.query(
            "SELECT id FROM entries WHERE settled < ? LIMIT ?", self.epoch, batch
        ):
            self._rank(identity)


def _record(key: str, device: str, text: str, schedule: str, timing: str) -> Record | None:
    """An entry's columns as a record; None for what does not read as one (somebody else wrote it)."""
    fields = {"format": FORMAT, "compiler": COMPILER, "device": device, "spec": text, "key": key}
    fields |= {"target": device.partition(".")[0], "verdict": "timed"}
    try:
        times = dict(parse_json(timing))  # type: ignore[call-overload]
        return from_json({**fields, "schedule": parse_json(schedule), **times})
    except (RecordError, TypeError, ValueError):
        return None


def entry_id(r: Record) -> str:
    """One name for a class, a spec, a compiler and a schedule."""
    parts = [r.device, r.key, str(r.compiler), canonical_json(schedules.to_json(r.schedule))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _entry(row: Sequence[Any]) -> Entry:
    return Entry(row[0], Standing(row[2], row[3], bool(row[4])))
