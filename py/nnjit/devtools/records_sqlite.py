"""The record store's embedded database: opens a file in kernels_cache/, moves a broken one aside.

Write-ahead log, so that readers do not wait and a killed server leaves whole transactions; other processes are
waited for; the file cannot grow past `limit` bytes.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .records_sql import MIGRATIONS, DatabaseBusy, DatabaseError, DatabaseFull, DatabaseLost, Row

PAGE = 4096
LIMIT_BYTES = 256 << 20
BUSY_SECONDS = 5.0
KEPT_ASIDE = 3
FULL = ("full", "quota", "no space")
BROKEN = ("malformed", "not a database", "corrupt")


class SqliteDatabase:
    """The Database of one file; see records_sql. A file that is broken is renamed and a new one begun."""

    def __init__(self, path: Path, say: Callable[[str], None], limit: int = LIMIT_BYTES) -> None:
        self.path, self.say, self.limit = path, say, limit
        self.label = str(path)
        self._connection: sqlite3.Connection | None = None

    def query(self, sql: str, *values: Any) -> list[Row]:
        with self._errors():
            return self._opened().execute(sql, values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self._errors():
            self._opened().execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._errors():
                self._opened().execute("COMMIT")
        except BaseException:
            if self._connection is not None and self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        return self._connection or self._open()

    def _open(self) -> sqlite3.Connection:
        """The connection, whole and migrated; a broken file is moved aside first."""
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            self.close()
            if not is_broken(error):
                raise
            self._set_aside(str(error))
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._connection = connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA max_page_count = {self.limit // PAGE}")
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(f"malformed: {found}")
        self._migrate(connection)
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        seen = connection.execute("PRAGMA user_version").fetchone()[0]
        if seen > len(MIGRATIONS):
            connection.execute("ROLLBACK")
            raise DatabaseLost(f"{self.path} was made by a newer nnjit; update, or move the file away")
        for statements in MIGRATIONS[seen:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")

    def _set_aside(self, why: str) -> None:
        aside = self.path.with_name(f"{self.path.name}.broken-{time.time_ns() // 1_000_000}")
        self.say(f"{self.path.name} is broken ({why}): moved to {aside.name}, a new one begins")
        self.path.replace(aside)
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        for old in sorted(self.path.parent.glob(f"{self.path.name}.broken-*"))[:-KEPT_ASIDE]:
            old.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors as records_sql's; a file found broken is reopened by the next call."""
        try:
            yield
        except sqlite3.Error as error:
            if is_broken(error):
                self.close()
                raise DatabaseLost(f"{self.path.name}: {error}") from error
            raise translated(error) from error
        except OSError as error:
            raise DatabaseLost(f"{self.path}: {error.strerror or error}") from error


def is_broken(error: sqlite3.Error) -> bool:
    text = str(error).lower()
    return any(word in text for word in BROKEN)


def translated(error: sqlite3.Error) -> DatabaseError:
    text = str(error).lower()
    if any(word in text for word in FULL):
        return DatabaseFull(f"no room for records: {error}")
    if "locked" in text or "busy" in text:
        return DatabaseBusy(f"the records are in use: {error}")
    return DatabaseLost(str(error))
