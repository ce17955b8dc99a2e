"""The record store in PostgreSQL, for several servers with one set of records: postgresql://user@host/name.

The driver is psycopg (version 3), imported only here. A lost connection is made anew by the next call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from .records_sql import MIGRATIONS, DatabaseBusy, DatabaseError, DatabaseFull, DatabaseLost, Row

if TYPE_CHECKING:
    import psycopg

LOCK = 0x6E6E6A6974
"""The advisory lock all writers take: one at a time, whichever server they are of."""
TIMEOUT_SECONDS = 5
SCHEMA = "nnjit"


class PostgresDatabase:
    """The Database behind a connection URL; see records_sql. All tables are in the schema `nnjit`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.label = without_password(url)
        self._connection: psycopg.Connection[Row] | None = None

    def query(self, sql: str, *values: Any) -> list[Row]:
        with self._errors():
            # every statement is a constant of this package; psycopg's types ask for a literal
            cursor = self._opened().execute(cast(Any, sql.replace("?", "%s")), values)
            return cursor.fetchall() if cursor.description else []

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self._errors():
            connection = self._opened()
            connection.execute("BEGIN")
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        try:
            yield
            with self._errors():
                connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(Exception):
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> psycopg.Connection[Row]:
        if self._connection is None or self._connection.closed:
            import psycopg

            milliseconds = TIMEOUT_SECONDS * 1000
            self._connection = psycopg.connect(
                self.url,
                autocommit=True,
                connect_timeout=TIMEOUT_SECONDS,
                application_name="nnjit",
                options=f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
                f" -c search_path={SCHEMA}",
            )
            self._migrate(self._connection)
        return self._connection

    def _migrate(self, connection: psycopg.Connection[Row]) -> None:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            connection.execute("CREATE SCHEMA IF NOT EXISTS nnjit")
            connection.execute("CREATE TABLE IF NOT EXISTS migrations (count INTEGER NOT NULL)")
            row = connection.execute("SELECT MAX(count) FROM migrations").fetchone()
            seen = (row[0] if row else None) or 0
            if seen > len(MIGRATIONS):
                raise DatabaseLost(f"{self.label} was made by a newer nnjit; update this server")
            for statements in MIGRATIONS[seen:]:
                for statement in statements:
                    connection.execute(cast(Any, statement))
            if seen < len(MIGRATIONS):
                connection.execute("INSERT INTO migrations VALUES (%s)", (len(MIGRATIONS),))

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            raise translated(error) from error


def translated(error: psycopg.Error) -> DatabaseError:
    """By SQLSTATE: 53100 disk full, 53xxx no resources, 55P03 and 57014 waited too long, 40xxx deadlocks."""
    state = error.sqlstate or ""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if state == "53100" or state == "53200":
        return DatabaseFull(f"no room for records: {text}")
    if state in {"55P03", "57014"} or state.startswith(("40", "53")):
        return DatabaseBusy(f"the records are in use: {text}")
    return DatabaseLost(text)


def without_password(url: str) -> str:
    """The URL as it may be printed."""
    scheme, _, rest = url.partition("://")
    login, at, host = rest.rpartition("@")
    return f"{scheme}://{login.partition(':')[0]}{at}{host.partition('?')[0]}"
