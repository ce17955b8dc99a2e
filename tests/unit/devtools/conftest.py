"""A file server on loopback that misbehaves as told, and package managers that answer from files."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest

from nnjit.devtools.postgres import Cluster, cluster
from nnjit.devtools.records_postgres import PostgresDatabase
from nnjit.devtools.records_sql import Database
from nnjit.devtools.records_sqlite import SqliteDatabase


@dataclass
class FaultyServer:
    """Serves `files` by path. Faults are spent in order, one a request: see Faults below.

    `cut:N` sends N bytes of the answer and closes, `whole` ignores Range, `status:N` answers that status,
    `ok` behaves. With none left it behaves.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    sent: int = 0
    url: str = ""

    def put(self, path: str, data: bytes) -> str:
        self.files["/" + path] = data
        return self.url + path


class FaultyHandler(http.server.BaseHTTPRequestHandler):
    state: FaultyServer

    def do_GET(self) -> None:
        state, wanted = self.state, self.headers.get("Range")
        state.requests.append((self.path, wanted))
        fault, _, number = (state.faults.pop(0) if state.faults else "ok").partition(":")
        data = state.files.get(self.path)
        if fault == "status" or data is None:
            self.send_error(int(number) if fault == "status" else 404)
            return
        start, stop = 0, len(data)
        if wanted and fault != "whole":
            first, last = wanted.removeprefix("bytes=").split("-")
            start, stop = int(first), min(int(last) + 1, len(data)) if last else len(data)
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        body = data[start:stop]
        body = body[: int(number)] if fault == "cut" else body
        state.sent += len(body)
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def faulty() -> Iterator[FaultyServer]:
    state = FaultyServer()
    handler = type("Handler", (FaultyHandler,), {"state": state})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()


FAKE_PIP = """
import json, sys
urls = json.load(open({urls!r}))
open({log!r}, "a").write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[-1] not in urls:
    sys.exit("ERROR: No matching distribution found for " + sys.argv[-1])
print(json.dumps({{"install": [{{"download_info": {{"url": urls[sys.argv[-1]]}}}}]}}))
"""
FAKE_NPM = """
import json, shutil, sys
tarballs = json.load(open({tarballs!r}))
open({log!r}, "a").write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[-1] not in tarballs:
    sys.exit("npm error code E404")
shutil.copy(tarballs[sys.argv[-1]], sys.argv[sys.argv.index("--pack-destination") + 1])
"""


@dataclass
class FakeClients:
    """pip and npm as programs of their own that read what they know from JSON files."""

    folder: Path
    urls: dict[str, str] = field(default_factory=dict)
    tarballs: dict[str, str] = field(default_factory=dict)

    def pip(self) -> list[str]:
        return self._program("pip", FAKE_PIP, urls=self.urls)

    def npm(self) -> list[str]:
        return self._program("npm", FAKE_NPM, tarballs=self.tarballs)

    def certify(self) -> None:
        pass

    def calls(self, name: str) -> int:
        log = self.folder / f"{name}.log"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def _program(self, name: str, text: str, **data: dict[str, str]) -> list[str]:
        names = {"log": str(self.folder / f"{name}.log")}
        for key, value in data.items():
            names[key] = str(self.folder / f"{key}.json")
            Path(names[key]).write_text(json.dumps(value))
        program = self.folder / f"{name}.py"
        program.write_text(text.format(**names))
        return [sys.executable, str(program)]

    def add_npm(self, ref: str, members: dict[str, bytes]) -> None:
        path = self.folder / f"{hashlib.sha256(ref.encode()).hexdigest()[:8]}-1.0.tgz"
        with tarfile.open(path, "w:gz") as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, BytesIO(data))
        self.tarballs[ref] = str(path)


@pytest.fixture
def clients(tmp_path: Path) -> FakeClients:
    folder = tmp_path / "clients"
    folder.mkdir()
    return FakeClients(folder)


@pytest.fixture
def wheel() -> Callable[[dict[str, bytes]], bytes]:
    """wheel({"a/b.bin": bytes}): the bytes of such a zip."""

    def make(members: dict[str, bytes]) -> bytes:
        out = BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return out.getvalue()

    return make


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster]:
    """A private PostgreSQL on a Unix socket; the tests that want it are skipped where there can be none."""
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(cluster())
        except OSError as error:
            pytest.skip(f"PostgreSQL: {error}")
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        made: Database = SqliteDatabase(tmp_path / "records.sqlite3", print)
    else:
        made = PostgresDatabase(request.getfixturevalue("postgres_cluster").url)
        made.query("DROP SCHEMA IF EXISTS nnjit CASCADE")
        made.close()
    yield made
    made.close()
