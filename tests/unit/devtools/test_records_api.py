"""The kernel database over HTTP: what is cached how, what is refused how, what a report may hold."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nnjit.devtools import records_published
from nnjit.devtools.httpd import Server
from nnjit.devtools.records_api import MAX_BODY, MAX_RECORDS, PREFIX, Answer, Rates, RecordsApi, Request
from nnjit.devtools.records_limits import Buckets, network_of
from nnjit.devtools.records_sql import DatabaseBusy, DatabaseFull, DatabaseLost
from nnjit.devtools.records_sqlite import SqliteDatabase
from nnjit.devtools.records_store import Store
from nnjit.devtools.site import Site
from nnjit.tune.records import Record, decode_lines
from tests.support.reports import DEVICE, Clock, record

OPEN = Rates((1e6, 1e6), (1e6, 1e6), (1e6, 1e6))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    made = Store(SqliteDatabase(tmp_path / "records.sqlite3", print), clock=clock)
    yield made
    made.database.close()


@pytest.fixture
def api(store: Store, clock: Clock) -> RecordsApi:
    return RecordsApi(store, forwarded=True, rates=OPEN, clock=clock)


def get(api: RecordsApi, path: str, method: str = "GET", address: str = "10.0.0.1", **headers: str) -> Answer:
    named = {k.replace("_", "-").lower(): v for k, v in headers.items()}
    return api.answer(Request(method, PREFIX + path, named, address))


def post(api: RecordsApi, body: object, network: int = 1, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"content-type": "application/json", "content-length": str(len(data))}
    named["x-forwarded-for"] = f"203.0.113.7, 10.0.{network}.9"
    named |= {k.replace("_", "-").lower(): v for k, v in headers.items()}
    return api.answer(Request("POST", PREFIX + "report", named, "127.0.0.1", lambda count: data[:count]))


def report(*records: Record) -> dict[str, Any]:
    return {"format": 1, "records": [r.to_json() for r in records]}


def pointer(api: RecordsApi, device: str = DEVICE) -> dict[str, Any]:
    answer = get(api, device)
    assert answer.status == 200
    return dict(json.loads(answer.body)["shards"])


def lines(api: RecordsApi, device: str = DEVICE) -> list[Record]:
    out: list[Record] = []
    for shard in pointer(api, device).values():
        good, bad = decode_lines(get(api, f"{device}/{shard['hash']}.jsonl").body.decode())
        assert not bad and len(good) == shard["count"]
        out += good
    return out


def error(answer: Answer) -> tuple[int, str]:
    content = json.loads(answer.body)["error"]
    assert content["message"] and set(content) == {"code", "message", "hint"}
    return int(answer.status), content["code"]


def test_report_then_fetch(api: RecordsApi, clock: Clock) -> None:
    assert pointer(api) == {}
    answer = post(api, report(record(6, 0.5), record(7, 2.0)))
    assert json.loads(answer.body) == {
        "kept": 1, "refused": [{"index": 1, "code": "SLOW", "message": "not kept"}]
    }  # fmt: skip
    assert pointer(api) == {}, "for two seconds the pointer is answered from memory"
    clock.now += 3
    assert lines(api) == [record(6, 0.5)]


def test_a_shard_is_named_by_its_content_and_kept_for_ever(api: RecordsApi, clock: Clock) -> None:
    post(api, report(*(record(6, 0.5, spec_number=i) for i in range(9))))
    first = get(api, DEVICE)
    assert first.headers["Cache-Control"] == "no-cache"
    assert get(api, DEVICE, If_None_Match=first.headers["ETag"]).status == 304
    (shard,) = pointer(api).values()
    plain = get(api, f"{DEVICE}/{shard['hash']}.jsonl")
    assert "immutable" in plain.headers["Cache-Control"] and len(plain.body) == shard["bytes"]
    packed = get(api, f"{DEVICE}/{shard['hash']}.jsonl", Accept_Encoding="br, gzip")
    assert gzip.decompress(packed.body) == plain.body and packed.headers["Content-Encoding"] == "gzip"
    post(api, report(record(7, 0.4)), network=2)
    clock.now += 3
    assert get(api, DEVICE, If_None_Match=first.headers["ETag"]).status == 200
    (other,) = pointer(api).values()
    assert other["hash"] != shard["hash"]
    assert get(api, f"{DEVICE}/{shard['hash']}.jsonl").body == plain.body, (
        "who has the old pointer gets the old"
    )


def test_large_classes_are_split_by_the_keys_first_digit(
    api: RecordsApi, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_published, "ONE_SHARD", 10)
    many = [record(6, 0.5, spec_number=i) for i in range(40)]
    post(api, report(*many))
    shards = pointer(api)
    assert set(shards) == {r.key[0] for r in many} and "" not in shards
    assert sorted(lines(api), key=lambda r: r.key) == sorted(many, key=lambda r: r.key)
    before = {d: s["hash"] for d, s in shards.items()}
    post(api, report(record(7, 0.4)), network=2)
    clock.now += 3
    changed = {d for d, s in pointer(api).items() if s["hash"] != before[d]}
    assert changed == {record().key[0]}, "what did not change keeps its address"


def test_shipped_records_are_published_until_the_store_knows_better(store: Store, clock: Clock) -> None:
    shipped = [record(4, 0.7), record(5, 0.7, spec_number=1), record(9, verdict="trap")]
    api = RecordsApi(store, shipped, rates=OPEN, clock=clock)
    assert set(lines(api)) == set(shipped[:2])
    post(api, report(record(4, 0.6), record(6, 0.5)))
    clock.now += 3
    found = [r for r in lines(api) if r.spec == record().spec]
    assert [(r.schedule, r.ratio) for r in found] == [(record(6).schedule, 0.5), (record(4).schedule, 0.6)]


@pytest.mark.parametrize(
    "path",
    ["", "cuda.x", DEVICE + "x", DEVICE + "/", DEVICE + "/../x", f"{DEVICE}/{'0' * 32}.jsonl", "report"],
)
def test_not_found(api: RecordsApi, path: str) -> None:
    assert error(get(api, path)) == (404, "NOT_FOUND")


def test_any_page_may_ask(api: RecordsApi) -> None:
    assert get(api, DEVICE).headers["Access-Control-Allow-Origin"] == "*"
    asked = get(api, "report", "OPTIONS")
    assert asked.status == 204 and "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert error(get(api, DEVICE, "PUT")) == (405, "METHOD")


BAD_BODIES: dict[str, tuple[object, str]] = {
    "no JSON": (b"{", "RECORD"),
    "not UTF-8": (b"\xff\xfe", "RECORD"),
    "a list": ([], "RECORD"),
    "another format": ({"format": 2, "records": [record().to_json()]}, "RECORD"),
    "a field more": ({**report(record()), "user": "me"}, "RECORD"),
    "no records": (report(), "RECORD"),
    "too many": (report(*[record()] * (MAX_RECORDS + 1)), "RECORD"),
    "none is a record": ({"format": 1, "records": [{}, 7, {**record().to_json(), "model": "x"}]}, "RECORD"),
    "deep": (b'{"format":1,"records":' + b"[" * 50_000, "RECORD"),
}


@pytest.mark.parametrize(("body", "code"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_bad_reports(api: RecordsApi, store: Store, body: object, code: str) -> None:
    assert error(post(api, body)) == (400, code)
    assert store.counts()["entries"] == 0


def test_a_bad_record_does_not_spoil_its_neighbours(api: RecordsApi, store: Store) -> None:
    items = [record(5).to_json(), {**record(6).to_json(), "device": "my laptop"}, record(7).to_json()]
    answer = json.loads(post(api, {"format": 1, "records": items}).body)
    assert answer["kept"] == 2 and [(r["index"], r["code"]) for r in answer["refused"]] == [(1, "RECORD")]


def test_headers_of_a_report(api: RecordsApi) -> None:
    assert error(post(api, b"{}", Content_Type="text/plain")) == (415, "MEDIA_TYPE")
    assert error(post(api, b"{}", Content_Length="")) == (411, "LENGTH")
    assert error(post(api, b"{}", Content_Length="-1")) == (411, "LENGTH")
    assert error(post(api, b"{}", Transfer_Encoding="chunked")) == (411, "LENGTH")
    assert error(post(api, b"{}", Content_Length=str(MAX_BODY + 1))) == (413, "TOO_LARGE")
    assert error(post(api, b"{}", Content_Length="9" * 5000)) == (413, "TOO_LARGE")
    assert error(post(api, b"{}", Content_Length="99")) == (400, "RECORD")


def test_rates(store: Store, clock: Clock) -> None:
    api = RecordsApi(store, forwarded=True, rates=Rates((1, 5), (1, 3), (1, 10)), clock=clock)
    for _ in range(3):
        assert post(api, report(record(6), record(7)), network=1).status == 200
    refused = post(api, report(record(6)), network=1)
    assert error(refused) == (429, "RATE") and refused.headers["Retry-After"] == "2"
    assert post(api, report(record(6)), network=2).status == 200, "another network is not slowed"
    clock.now += 1
    assert error(post(api, report(*[record(6)] * 10), network=1)) == (429, "RATE"), "records count too"
    answers = [get(api, DEVICE).status for _ in range(9)]
    assert answers.count(200) == 5 and answers.count(429) == 4


def test_buckets_forget_the_least_used() -> None:
    clock = Clock()
    buckets = Buckets(1, 2, names=3, clock=clock)
    for name in "abcdabcd":
        buckets.take(name)
    assert len(buckets) == 3
    assert buckets.take("x", 5) > 0, "more than the burst never passes"
    clock.now += 100
    assert buckets.take("x", 2) == 0 and buckets.take("x", 1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.51.100.7", "198.51.100.0/24"),
        ("::ffff:198.51.100.7", "198.51.100.0/24"),
        ("2001:db8:1:2::9", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", "unknown"),
        ("<script>", "unknown"),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (DatabaseFull("x"), 507, "FULL"),
        (DatabaseBusy("x"), 503, "BUSY"),
        (DatabaseLost("x"), 503, "UNAVAILABLE"),
    ],
)
def test_a_database_that_fails_costs_the_report_and_nothing_else(
    api: RecordsApi,
    store: Store,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    status: int,
    code: str,
) -> None:
    post(api, report(record(6, 0.5)))
    assert lines(api) == [record(6, 0.5)]

    def fails(*_: object) -> None:
        raise failure

    monkeypatch.setattr(store.database, "query", fails)
    monkeypatch.setattr(store.database, "transaction", fails)
    clock.now += 60
    assert error(post(api, report(record(7, 0.5)))) == (status, code)
    assert lines(api) == [record(6, 0.5)], "what was published before is still served"
    monkeypatch.undo()
    clock.now += 60
    assert post(api, report(record(7, 0.4)), network=2).status == 200
    assert set(lines(api)) == {record(6, 0.5), record(7, 0.4)}


def test_without_a_database_the_shipped_are_served(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    store = Store(SqliteDatabase(tmp_path / "file" / "r.sqlite3", said.append), clock=clock)
    api = RecordsApi(store, [record(4, 0.7)], said.append, rates=OPEN, clock=clock)
    assert lines(api) == [record(4, 0.7)] and said
    assert error(post(api, report(record(6)))) == (503, "UNAVAILABLE")


# ---- over sockets ----


@pytest.fixture
def server(tmp_path: Path, api: RecordsApi) -> Iterator[Server]:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "index.html").write_text("<!doctype html>")
    running = Server(Site(tmp_path / "web"), records=api)
    running.start()
    yield running
    running.shutdown()
    running.server_close()


def connect(server: Server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(*server.server_address[:2], timeout=60)


def test_one_connection_for_all(server: Server) -> None:
    connection = connect(server)
    headers = {"Content-Type": "application/json; charset=utf-8"}
    for _ in range(2):
        connection.request("POST", PREFIX + "report", json.dumps(report(record(6, 0.5))), headers)
        answer = connection.getresponse()
        assert answer.status == 200 and json.loads(answer.read())["kept"] == 1
    connection.request("GET", PREFIX + DEVICE)
    answer = connection.getresponse()
    (shard,) = json.loads(answer.read())["shards"].values()
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    connection.request("HEAD", f"{PREFIX}{DEVICE}/{shard['hash']}.jsonl")
    answer = connection.getresponse()
    assert (
        answer.status == 200
        and answer.read() == b""
        and int(answer.headers["Content-Length"]) == shard["bytes"]
    )
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"<!doctype html>"
    connection.close()


def test_a_refused_body_is_not_taken_for_the_next_request(server: Server) -> None:
    with socket.create_connection(server.server_address[:2], timeout=60) as client:
        inner = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        head = f"POST {PREFIX}report HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: {len(inner)}"
        client.sendall(head.encode() + b"\r\n\r\n" + inner)
        received = b""
        while block := client.recv(4096):
            received += block
    assert received.count(b"HTTP/1.1 ") == 1 and b" 415 " in received.splitlines()[0]


def test_a_body_that_never_comes(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnjit.devtools.httpd.BODY_SECONDS", 0.2)
    with socket.create_connection(server.server_address[:2], timeout=60) as client:
        head = f"POST {PREFIX}report HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        client.sendall(head.encode() + b"{")
        assert b" 408 " in client.makefile("rb").readline()


def test_methods_and_places_without_a_database(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("")
    running = Server(Site(tmp_path))
    running.start()
    connection = connect(running)
    connection.request("POST", PREFIX + "report", "{}", {"Content-Type": "application/json"})
    assert connection.getresponse().status == 405
    connection.close()
    running.shutdown()
    running.server_close()
