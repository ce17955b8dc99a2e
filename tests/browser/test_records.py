"""The page's client of the kernel database, against the real server on another origin and against odd ones."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from nnjit.devtools import records_api, records_published
from nnjit.devtools.httpd import Server
from nnjit.devtools.records_sqlite import SqliteDatabase
from nnjit.devtools.records_store import Store
from nnjit.devtools.site import Site
from nnjit.tune.records import decode_lines, encode
from tests.support.reports import DEVICE, record

from .api_page import Api, model

if TYPE_CHECKING:
    from playwright.sync_api import Page

FETCH = """async ([url, device, timeoutMs]) => {
  const { sharedRecords, LIMITS } = await import('/api/records.js');
  LIMITS.timeoutMs = timeoutMs;
  return sharedRecords(url, device);
}"""
REPORT = """async ([url, lines, timeoutMs]) => {
  const { reportRecords, LIMITS } = await import('/api/records.js');
  LIMITS.timeoutMs = timeoutMs;
  return reportRecords(url, lines);
}"""
PATIENT = 60_000
"""ms that a page waits for a server, where it is not that which is tested: more than a busy machine stands still."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Server]:
    store = Store(SqliteDatabase(tmp_path / "records.sqlite3", print))
    running = Server(Site(tmp_path), records=records_api.RecordsApi(store))
    running.start()
    yield running
    running.shutdown()
    running.server_close()
    store.database.close()


def test_what_one_page_reports_another_fetches(page: Page, database: Server) -> None:
    many = [record(6, 0.5, spec_number=i) for i in range(70)]
    assert page.evaluate(REPORT, [database.url, [encode(r) for r in many], PATIENT]) == 70
    good, bad = decode_lines("\n".join(page.evaluate(FETCH, [database.url, DEVICE, PATIENT])))
    assert not bad and sorted(map(encode, good)) == sorted(map(encode, many))


def test_large_records_go_in_several_reports(page: Page, database: Server) -> None:
    """By bytes too: sixty records of a long spec are more than a server takes at once."""
    spec = record().spec + "\n  $2[4*m + n] = %acc" * 200
    many = [replace(record(tile, 0.5), spec=spec.replace("m:3", f"m:{tile}")) for tile in range(1, 61)]
    assert sum(len(encode(r)) for r in many) > 256 * 1024
    assert page.evaluate(REPORT, [database.url, [encode(r) for r in many], PATIENT]) == 60


def test_a_class_nobody_reported_is_empty(page: Page, database: Server) -> None:
    assert page.evaluate(FETCH, [database.url, DEVICE, PATIENT]) == []


def test_what_is_no_record_is_not_kept(page: Page, database: Server) -> None:
    lines = [encode(record()), json.dumps({**record(7).to_json(), "model": "mine"})]
    assert page.evaluate(REPORT, [database.url, lines, PATIENT]) == 1


Odd = Callable[[http.server.BaseHTTPRequestHandler], None]


def send(handler: http.server.BaseHTTPRequestHandler, body: bytes, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("Access-Control-Allow-Origin", "*")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def pointer(**shards: Any) -> bytes:
    return json.dumps({"format": 1, "shards": shards}).encode()


def whole(handler: http.server.BaseHTTPRequestHandler, size: int, said: int) -> None:
    is_shard = handler.path.endswith(".jsonl")
    send(handler, b"x" * size if is_shard else pointer(a={"hash": "0" * 32, "bytes": said, "count": 1}))


OVER = threading.Event()
WAITED: list[bool] = []


def silent(handler: http.server.BaseHTTPRequestHandler) -> None:
    """A head, and no more until all is over: who waits for the end would find the minute gone."""
    handler.send_response(200)
    handler.send_header("Access-Control-Allow-Origin", "*")
    handler.end_headers()
    WAITED.append(OVER.wait(60))


def elsewhere(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Access-Control-Allow-Origin", "*")
    handler.send_header("Location", "/other")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


ODD: dict[str, Odd] = {
    "an error": lambda h: send(h, b"no", 500),
    "no JSON": lambda h: send(h, b"<html>"),
    "null": lambda h: send(h, b"null"),
    "another format": lambda h: send(h, b'{"format":2,"shards":{}}'),
    "a hash that is a path": lambda h: send(h, pointer(a={"hash": "../../x", "bytes": 1, "count": 1})),
    "a pointer too long": lambda h: send(h, b" " * 100_000),
    "a class too large": lambda h: whole(h, 10, 10**9),
    "a shard longer than said": lambda h: whole(h, 1000, 10),
    "not UTF-8": lambda h: send(h, b"\xff\xfe\xfd"),
    "a redirect": elsewhere,
    "silence": silent,
    "not there": lambda h: h.connection.close(),
}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers /NAME/... as ODD says."""

    def do_GET(self) -> None:
        ODD[self.path.split("/")[1].replace("%20", " ")](self)

    def do_POST(self) -> None:
        self.do_GET()

    def do_OPTIONS(self) -> None:
        self.send_response(204)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Headers", "Content-Type")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_an_odd_server_costs_nothing_but_the_records(page: Page, allow_errors: Any) -> None:
    allow_errors("Failed to load resource", "ERR_", "CORS")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    OVER.clear()
    WAITED.clear()
    for name in ODD:
        url = f"http://127.0.0.1:{server.server_address[1]}/{name}/"
        assert page.evaluate(FETCH, [url, DEVICE, 700]) == [], name
        assert page.evaluate(REPORT, [url, [encode(record())], 700]) == 0, name
    assert not WAITED, "the page waited as long as the server did"
    OVER.set()
    server.shutdown()
    server.server_close()


def test_addresses_that_are_none(page: Page, allow_errors: Any) -> None:
    allow_errors("Failed to load resource", "ERR_")
    for url in ("http://127.0.0.1:9/", "ftp://x/", "http://[", "data:,x"):
        assert page.evaluate(FETCH, [url, DEVICE, PATIENT]) == [], url
        assert page.evaluate(REPORT, [url, [encode(record())], PATIENT]) == 0, url


def test_a_session_reports_only_when_told_and_another_finds_it(
    new_page: Any, server: Server, database: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From tuning to the wire to the next visitor, with all that lies between."""
    monkeypatch.setattr(records_published, "REFRESH_SECONDS", 0.0)  # how old answers may be
    weights = {"w": np.random.default_rng(1).standard_normal((48, 40)).astype(np.float32)}
    nodes = [helper.make_node("MatMul", ["secret_x", "w"], ["secret_y"], "secret_node")]
    assert database.records is not None
    store = database.records.store
    with new_page() as page:
        api = Api(page, server)
        page.evaluate("async (ms) => { (await import('/api/records.js')).LIMITS.timeoutMs = ms; }", PATIENT)
        for share, rows in ((False, 24), (True, 36)):  # what one session found the next has no need to try
            shapes = (
                {"secret_x": (TensorProto.FLOAT, [rows, 48])},
                {"secret_y": (TensorProto.FLOAT, [rows, 40])},
            )
            state = api.run(
                """async ({ path, rows, tune }) => {
                  // a kernel of this size may be at its bound from the start; it is tried all the same
                  await nnjit.python('import nnjit.tune.search as s; s.WORTH = s.NEAR = 0');
                  const session = await create(path, { tune: { mode: 'now', ...tune } });
                  await session.run({ secret_x: T('float32', new Array(rows * 48).fill(0.5), [rows, 48]) });
                  const { state } = await session.tuning.finished();
                  await session.release();
                  return state;
                }""",
                {
                    "path": api.put(f"secret{rows}.onnx", model(nodes, *shapes, weights)),
                    "rows": rows,
                    "tune": {"cacheUrl": database.url, "share": share},
                },
            )
            assert state == "done"
            assert (store.counts()["votes"] > 0) == share
        (device,) = store.devices()
        stored = str([store.database.query(f"SELECT * FROM {t}") for t in ("specs", "entries", "votes")])
        # what is slower than the first guess is not published, and here nothing need be faster: one that is comes along
        assert page.evaluate(REPORT, [database.url, [encode(record(device=device))], PATIENT]) == 1
        good, bad = decode_lines("\n".join(page.evaluate(FETCH, [database.url + "?", device, PATIENT])))
    assert good and not bad and all(r.device == device and r.verdict == "timed" for r in good)
    # the sizes as specs have them: schedules are full of small numbers
    assert "secret" not in stored and " m:36 " in stored and " m:24 " not in stored
