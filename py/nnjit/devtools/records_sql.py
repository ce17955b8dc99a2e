"""What the record store asks of a database: a few statements both SQLite and PostgreSQL know, in transactions.

`MIGRATIONS` is the schema's history; a database remembers how many of them it has seen.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

Row = tuple[Any, ...]


class DatabaseError(Exception):
    """The database could not do it; nothing of the transaction was kept."""


class DatabaseFull(DatabaseError):
    """No room: the disk, a quota or the database's own limit."""


class DatabaseBusy(DatabaseError):
    """Another process held it for too long."""


class DatabaseLost(DatabaseError):
    """It cannot be reached or read; the next call tries again."""


class Database(Protocol):
    """One connection, used by one thread at a time. Placeholders are `?`."""

    label: str

    def query(self, sql: str, *values: Any) -> list[Row]:
        """Runs one statement; the rows of a SELECT or RETURNING, else none."""

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing, one writer at a time over all processes."""

    def close(self) -> None: ...


MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE specs (key TEXT PRIMARY KEY, text TEXT NOT NULL)",
        "CREATE TABLE classes (device TEXT PRIMARY KEY, touched DOUBLE PRECISION NOT NULL)",
        # `digit` is the first digit of the spec's key: a shard, with a number that grows by each change
        "CREATE TABLE shards (device TEXT NOT NULL, digit TEXT NOT NULL, version BIGINT NOT NULL,"
        " PRIMARY KEY (device, digit))",
        "CREATE TABLE class_specs (device TEXT NOT NULL, key TEXT NOT NULL, touched DOUBLE PRECISION NOT NULL,"
        " author TEXT NOT NULL, PRIMARY KEY (device, key))",
        "CREATE TABLE entries (id TEXT PRIMARY KEY, device TEXT NOT NULL, key TEXT NOT NULL, digit TEXT NOT NULL,"
        " compiler INTEGER NOT NULL, schedule TEXT NOT NULL, author TEXT NOT NULL, settled BIGINT NOT NULL,"
        " score DOUBLE PRECISION NOT NULL, reporters INTEGER NOT NULL, confirmed INTEGER NOT NULL,"
        " timing TEXT NOT NULL)",
        "CREATE INDEX class_specs_by_key ON class_specs (key)",
        "CREATE INDEX class_specs_by_age ON class_specs (device, touched, key)",
        "CREATE INDEX entries_by_shard ON entries (device, digit, key)",
        "CREATE INDEX entries_by_key ON entries (device, key, confirmed)",
        "CREATE INDEX entries_by_author ON entries (device, author, confirmed)",
        "CREATE INDEX entries_by_worth ON entries (confirmed, reporters)",
        "CREATE INDEX entries_by_settled ON entries (settled)",
        "CREATE TABLE votes (entry TEXT NOT NULL, epoch BIGINT NOT NULL, reporter TEXT NOT NULL,"
        " ratio DOUBLE PRECISION NOT NULL, timing TEXT NOT NULL, at DOUBLE PRECISION NOT NULL,"
        " PRIMARY KEY (entry, epoch, reporter))",
        "CREATE INDEX votes_by_epoch ON votes (epoch)",
        "CREATE TABLE salts (epoch BIGINT PRIMARY KEY, salt TEXT NOT NULL)",
    ),
)
