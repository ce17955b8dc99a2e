"""What may go wrong with the kernel database: a killed server, a broken file, no room, many writers at once."""

from __future__ import annotations

import http.client
import json
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from nnjit.devtools.cli import ROOT
from nnjit.devtools.postgres import Cluster
from nnjit.devtools.records_postgres import PostgresDatabase, without_password
from nnjit.devtools.records_sql import MIGRATIONS, Database, DatabaseFull, DatabaseLost
from nnjit.devtools.records_sqlite import KEPT_ASIDE, SqliteDatabase, translated
from nnjit.devtools.records_store import DIGITS, Store
from nnjit.tune.records import encode
from tests.support.reports import DEVICE, network, record

SERVER = """
import sys
from pathlib import Path
from nnjit.devtools.httpd import Server
from nnjit.devtools.records_api import Rates, RecordsApi
from nnjit.devtools.records_sqlite import SqliteDatabase
from nnjit.devtools.records_store import Store
free = Rates((1e6, 1e6), (1e6, 1e6), (1e6, 1e6))
store = Store(SqliteDatabase(Path(sys.argv[1]) / "r.sqlite3", print))
server = Server(None, records=RecordsApi(store, forwarded=True, rates=free))
print(server.url, flush=True)
server.serve_forever(0.05)
"""
REPORTER = """
import sys
from pathlib import Path
from nnjit.devtools.records_sqlite import SqliteDatabase
from nnjit.devtools.records_store import Store
from tests.support.reports import network, record
number = int(sys.argv[2])
store = Store(SqliteDatabase(Path(sys.argv[1]), print))
for i in range(25):
    assert store.report(network(number), [record(6, 0.5, spec_number=i)]) == ["kept"]
"""


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": f"{ROOT / 'py'}:{ROOT}", "PATH": "/usr/bin:/bin"},
        cwd=ROOT,
    )


def test_a_killed_server_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    running = python(SERVER, str(tmp_path))
    assert running.stdout is not None
    url = running.stdout.readline().strip()
    acknowledged: list[int] = []

    def reports(start: int) -> None:
        for i in range(start, start + 400):
            body = {"format": 1, "records": [record(6, 0.5, spec_number=i).to_json()]}
            headers = {"Content-Type": "application/json", "X-Forwarded-For": f"10.0.{i % 200}.1"}
            request = urllib.request.Request(url + "records/v1/report", json.dumps(body).encode(), headers)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    if json.load(answer)["kept"]:
                        acknowledged.append(i)
            except urllib.error.HTTPError as error:
                assert error.code == 503  # four at once are
            except (OSError, ValueError, http.client.HTTPException):  # in the middle of an answer, too
                return
            if len(acknowledged) > 60:
                running.send_signal(signal.SIGKILL)

    threads = [threading.Thread(target=reports, args=(1000 * t,)) for t in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    running.kill()
    running.wait(60)
    running.stdout.close()
    assert len(acknowledged) > 60
    database = SqliteDatabase(tmp_path / "r.sqlite3", print)
    store = Store(database)
    assert database.query("PRAGMA integrity_check") == [("ok",)]
    kept = {r.spec for digit in DIGITS for r, _ in store.best(DEVICE, digit)}
    assert kept >= {record(spec_number=i).spec for i in acknowledged}
    assert store.counts()["entries"] == store.counts()["votes"], "no half of a report"
    database.close()
    assert [p.name for p in tmp_path.glob("*broken*")] == []


def test_many_processes_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite3"
    running = [python(REPORTER, str(path), str(i)) for i in range(3)]
    assert [r.wait(120) for r in running] == [0, 0, 0]
    for r in running:
        r.stdout.close()  # type: ignore[union-attr]
    store = Store(SqliteDatabase(path, print))
    assert store.counts() == {"classes": 1, "specs": 25, "entries": 25, "votes": 75}
    assert all(s.confirmed for digit in DIGITS for _, s in store.best(DEVICE, digit))
    store.database.close()


def test_many_threads_write(database: Database) -> None:
    store = Store(database)

    def reports(number: int) -> None:
        for i in range(10):
            store.report(network(number), [record(6, 0.5, spec_number=i)])

    threads = [threading.Thread(target=reports, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert store.counts()["votes"] == 40


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "text":
        path.write_text("not a database, but a text of some length\n" * 200)
    elif how == "header":
        path.write_bytes(b"\0" * 100 + data[100:])
    elif how == "middle":
        path.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2 + 100])
    else:
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["text", "header", "middle", "cut", "empty"])
def test_a_broken_file_is_moved_aside(tmp_path: Path, how: str) -> None:
    path, said = tmp_path / "r.sqlite3", []
    store = Store(SqliteDatabase(path, said.append))
    store.report(network(1), [record(6, 0.5, spec_number=i) for i in range(20)])
    store.database.close()
    damage(path, how)
    store = Store(SqliteDatabase(path, said.append))
    assert store.report(network(1), [record(7, 0.5)]) == ["kept"]
    assert store.counts()["entries"] == 1
    store.database.close()
    aside = list(tmp_path.glob("*.broken-*"))
    if how == "empty":
        assert not aside and not said, "an empty file is a new database"
    else:
        assert len(aside) == 1 and len(said) == 1 and aside[0].name in said[0]


def test_only_some_broken_files_are_kept(tmp_path: Path) -> None:
    for i in range(KEPT_ASIDE + 2):
        (tmp_path / "r.sqlite3").write_text("broken " * 1000 + str(i))
        database = SqliteDatabase(tmp_path / "r.sqlite3", lambda text: None)
        database.query("SELECT 1")
        database.close()
    assert len(list(tmp_path.glob("*.broken-*"))) == KEPT_ASIDE


def test_a_file_that_breaks_while_open_is_replaced(tmp_path: Path) -> None:
    said: list[str] = []
    database = SqliteDatabase(tmp_path / "r.sqlite3", said.append)
    store = Store(database)
    store.report(network(1), [record(6, 0.5)])
    database.close()
    database.query("SELECT 1")
    (tmp_path / "r.sqlite3").write_bytes(b"x" * 100_000)
    database.query("PRAGMA shrink_memory")  # or the pages it remembers hide what happened
    with pytest.raises(DatabaseLost):
        store.report(network(1), [record(6, 0.5)])
    assert store.report(network(1), [record(6, 0.5)]) == ["kept"]
    assert len(said) == 1


def test_no_room(tmp_path: Path) -> None:
    """SQLite's own "database or disk is full", by a limit of pages: the report is lost, the rest stays."""
    store = Store(SqliteDatabase(tmp_path / "r.sqlite3", print, limit=40 * 4096))
    kept = 0
    with pytest.raises(DatabaseFull):
        for i in range(2000):
            kept += store.report(network(i % 200), [record(6, 0.5, spec_number=i)]) == ["kept"]
    assert kept > 5
    assert store.counts()["entries"] == store.counts()["votes"] == kept
    assert len([1 for digit in DIGITS for _ in store.best(DEVICE, digit)]) == kept
    store.database.close()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("database or disk is full", DatabaseFull),
        ("disk quota exceeded", DatabaseFull),
        ("disk I/O error", DatabaseLost),
    ],
)
def test_what_sqlite_says(text: str, kind: type[Exception]) -> None:
    assert type(translated(sqlite3.OperationalError(text))) is kind


def test_a_file_of_a_newer_nnjit_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite3"
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.commit()
    newer.close()
    before = path.read_bytes()
    with pytest.raises(DatabaseLost, match="newer nnjit"):
        SqliteDatabase(path, print).query("SELECT 1")
    assert path.read_bytes()[60:64] == before[60:64] and not list(tmp_path.glob("*broken*"))


def test_a_postgres_that_dies_and_comes_back(postgres_cluster: Cluster) -> None:
    database = PostgresDatabase(postgres_cluster.url)
    database.query("DROP SCHEMA IF EXISTS nnjit CASCADE")
    database.close()
    store = Store(database)
    assert store.report(network(1), [record(6, 0.5)]) == ["kept"]
    postgres_cluster.stop(at_once=True)
    with pytest.raises(DatabaseLost):
        store.report(network(1), [record(7, 0.5)])
    with pytest.raises(DatabaseLost):
        store.counts()
    postgres_cluster.start()
    assert store.report(network(1), [record(7, 0.5)]) == ["kept"]
    assert store.counts()["entries"] >= 1
    database.close()


def test_a_password_is_never_printed() -> None:
    shown = without_password("postgresql://me:hunter2@db.example/nnjit?password=hunter2")
    assert "hunter2" not in shown and shown == "postgresql://me@db.example/nnjit"


def test_serving_needs_neither_numpy_nor_a_driver() -> None:
    """What `serve.py` imports for the kernel database is the standard library and this package."""
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('numpy', 'onnx', 'psycopg')))\n"
        "import nnjit.devtools.cli, nnjit.tune.records\n"
        f"nnjit.tune.records.decode({encode(record())!r})\n"
    )
    done = python(code)
    assert done.wait(60) == 0
    done.stdout.close()  # type: ignore[union-attr]
