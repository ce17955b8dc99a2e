"""Opens the kernel database that `serve.py --records` names; returns the API that httpd.py serves."""

from __future__ import annotations

import importlib
import site
from pathlib import Path

from nnjit.errors import RecordError
from nnjit.tune.records import Record, decode_lines

from .env import Environment
from .lock import SetupError
from .records_api import RecordsApi
from .records_sql import Database, DatabaseError
from .records_sqlite import SqliteDatabase
from .records_store import DIGITS, Store
from .transfer import Say

FOLDER = "kernels_cache"
SHIPPED = "records.jsonl"
FILE = "records.sqlite3"
REQUIREMENTS = Path(__file__).with_name("requirements-postgres.txt")
SCHEMES = ("postgresql://", "postgres://")


def open_records(
    root: Path, where: str, env: Environment, say: Say, forwarded: bool = False
) -> RecordsApi | None:
    """`where`: "" for the file in kernels_cache/, "off" for none, a path, or a postgresql:// URL.

    A file that cannot be opened costs the database, not the server: the shipped records are still served.
    A URL was asked for by name, so SetupError when it does not answer.
    """
    if where == "off":
        return None
    folder = root / FOLDER
    shipped = read_shipped(folder / SHIPPED, say)
    if where.startswith(SCHEMES):
        database: Database = postgres(where, env)
        try:
            database.query("SELECT 1")
        except DatabaseError as error:
            raise SetupError(f"--records {database.label}: {error}") from error
        say(f"kernel database: {database.label}")
    elif "://" in where:
        raise SetupError(f"--records takes off, a file, or postgresql://USER@HOST/NAME, not {where!r}")
    else:
        database = SqliteDatabase(Path(where) if where else folder / FILE, say)
        try:
            database.query("SELECT 1")
        except DatabaseError as error:
            say(f"kernel database: {error}; reports are refused until it opens")
    return RecordsApi(Store(database), shipped, say, forwarded)


def postgres(url: str, env: Environment) -> Database:
    """The driver is optional: installed into .venv/ when a URL asks for it."""
    try:
        importlib.import_module("psycopg")
    except ImportError:
        env.require(REQUIREMENTS)
        for packages in env.folder.glob("lib/python*/site-packages"):
            site.addsitedir(str(packages))
        importlib.invalidate_caches()
    from .records_postgres import PostgresDatabase

    return PostgresDatabase(url)


def read_shipped(path: Path, say: Say) -> list[Record]:
    """The records that come with the checkout; a line that is none is left out and said."""
    try:
        records, errors = decode_lines(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        say(f"{path.name}: {error}")
        return []
    report(path, errors, say)
    return records


def report(path: Path, errors: list[RecordError], say: Say) -> None:
    for error in errors[:3]:
        say(f"{path.name}: left out a line: {error}")
    if len(errors) > 3:
        say(f"{path.name}: left out {len(errors) - 3} more")


def best_of_all(store: Store) -> list[Record]:
    """What is published of every class: worth shipping in kernels_cache/records.jsonl."""
    return [
        record for device in store.devices() for digit in DIGITS for record, _ in store.best(device, digit)
    ]
