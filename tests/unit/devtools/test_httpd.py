"""The HTTP server over real sockets: isolation headers, types, caching, ranges, and what it must not give."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnjit.devtools.http_headers import accepts_gzip
from nnjit.devtools.httpd import RangeError, Server, parse_range
from nnjit.devtools.lock import SetupError, read_lock
from nnjit.devtools.site import Site, plain_path

DATA = bytes(range(256)) * 40
SCRIPT = b"export const answer = 42;\n" * 100


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


Ask = Callable[..., Answer]


@pytest.fixture
def web(tmp_path: Path) -> Path:
    web = tmp_path / "web"
    digest = hashlib.sha256(DATA).hexdigest()
    for name, data in {
        "index.html": b"<!doctype html>",
        "app.js": SCRIPT,
        "worker.mjs": SCRIPT,
        "a.wasm": DATA,
        "model.onnx": DATA,
        "data.json": b"{}",
        "empty.txt": b"",
        "space name.txt": b"spaced",
        "vendor/x-1.0/right.wasm": DATA,
        "vendor/x-1.0/wrong.wasm": DATA + b"!",
        "vendor/x-1.0/right.wasm.part": DATA,
        "dist/0123456789ab/nnjit.whl": DATA,
        "ui/style.css": b"",
        ".hidden": b"secret",
    }.items():
        (web / name).parent.mkdir(parents=True, exist_ok=True)
        (web / name).write_bytes(data)
    (tmp_path / "outside.txt").write_bytes(b"secret")
    (web / "link.txt").symlink_to(tmp_path / "outside.txt")
    files = [
        {"path": f"x-1.0/{n}.wasm", "sha256": digest, "group": "g", "sources": [{"cdn": "http://x/"}]}
        for n in ("right", "wrong")
    ]
    (web / "vendor.lock.json").write_text(json.dumps({"pyodide": "1", "files": files}))
    return web


@pytest.fixture
def running(web: Path) -> Iterator[Server]:
    server = Server(Site(web, read_lock(web / "vendor.lock.json")))
    server.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def ask(running: Server) -> Iterator[Ask]:
    """ask("/path", method="GET", **headers) over one kept-alive connection (Header_Name=...)."""
    connection = http.client.HTTPConnection(*running.server_address[:2], timeout=60)

    def request(path: str, method: str = "GET", **headers: str) -> Answer:
        connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())

    yield request
    connection.close()


@pytest.mark.parametrize(
    "path", ["/", "/app.js", "/vendor/x-1.0/right.wasm", "/nothing", "/vendor/x-1.0/wrong.wasm"]
)
def test_every_answer_isolates_the_page(ask: Ask, path: str) -> None:
    headers = ask(path).headers
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/worker.mjs", "text/javascript; charset=utf-8"),
        ("/a.wasm", "application/wasm"),
        ("/model.onnx", "application/octet-stream"),
        ("/data.json", "application/json"),
        ("/dist/0123456789ab/nnjit.whl", "application/zip"),
        ("/ui/style.css", "text/css; charset=utf-8"),
    ],
)
def test_types(ask: Ask, path: str, type: str) -> None:
    answer = ask(path)
    assert (answer.status, answer.headers["Content-Type"]) == (200, type)


def test_what_is_named_or_pinned_by_hash_is_immutable_and_the_rest_is_revalidated(ask: Ask) -> None:
    for path in ("/vendor/x-1.0/right.wasm", "/dist/0123456789ab/nnjit.whl"):
        assert ask(path).headers["Cache-Control"] == "public, max-age=31536000, immutable"
    for path in ("/", "/app.js", "/vendor.lock.json"):
        assert ask(path).headers["Cache-Control"] == "no-cache"


def test_a_vendored_file_with_wrong_bytes_is_refused_by_name(ask: Ask) -> None:
    answer = ask("/vendor/x-1.0/wrong.wasm")
    assert answer.status == 500 and b"vendor/x-1.0/wrong.wasm does not match" in answer.body
    assert answer.headers["Cache-Control"] == "no-store"


def test_etag_revalidation(ask: Ask, web: Path) -> None:
    first = ask("/app.js")
    again = ask("/app.js", If_None_Match=f'"other", {first.headers["ETag"]}')
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    (web / "app.js").write_bytes(SCRIPT + b"//")
    changed = ask("/app.js", If_None_Match=first.headers["ETag"])
    assert changed.status == 200 and changed.headers["ETag"] != first.headers["ETag"]


def test_compression_is_kept_for_the_next_time(ask: Ask, running: Server, web: Path) -> None:
    plain = ask("/app.js")
    packed = ask("/app.js", Accept_Encoding="gzip, deflate, br")
    assert packed.headers["Content-Encoding"] == "gzip" and packed.headers["Vary"] == "Accept-Encoding"
    assert gzip.decompress(packed.body) == SCRIPT == plain.body
    assert len(packed.body) == int(packed.headers["Content-Length"]) < len(SCRIPT) / 10
    assert packed.headers["ETag"] != plain.headers["ETag"]
    assert ask("/app.js", Accept_Encoding="gzip", If_None_Match=packed.headers["ETag"]).status == 304
    copies = list(running.site.cache.iterdir())
    ask("/app.js", Accept_Encoding="gzip")
    assert list(running.site.cache.iterdir()) == copies and len(copies) == 1


@pytest.mark.parametrize("path", ["/model.onnx", "/data.json", "/dist/0123456789ab/nnjit.whl"])
def test_what_does_not_shrink_is_not_compressed(ask: Ask, path: str) -> None:
    assert "Content-Encoding" not in ask(path, Accept_Encoding="gzip").headers


@pytest.mark.parametrize(
    ("header", "answer"),
    [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("gzip;q=0", False), ("gzip; q=0.00", False)]
    + [("br", False), ("", False), ("x-gzipped", False)],
)
def test_accept_encoding(header: str, answer: bool) -> None:
    assert accepts_gzip(header) is answer


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("0-0", 0, 1), ("10-19", 10, 20), ("10200-", 10200, 10240), ("-5", 10235, 10240)]
    + [("0-999999", 0, 10240), ("-999999", 0, 10240)],
)
def test_ranges(ask: Ask, asked: str, start: int, stop: int) -> None:
    answer = ask("/model.onnx", Range=f"bytes={asked}")
    assert answer.status == 206 and answer.body == DATA[start:stop]
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/10240"
    assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize("asked", ["10240-", "99999-99999", "-0"])
def test_a_range_outside_the_file_is_416(ask: Ask, asked: str) -> None:
    answer = ask("/model.onnx", Range=f"bytes={asked}")
    assert answer.status == 416 and answer.headers["Content-Range"] == "bytes */10240"
    assert ask("/model.onnx").body == DATA  # the connection still works


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,4-5", "items=0-1", "bytes=a-b", "bytes=5-2", "bytes=-", "bytes"]
)
def test_a_range_header_that_makes_no_sense_is_ignored(ask: Ask, asked: str) -> None:
    answer = ask("/model.onnx", Range=asked)
    assert (answer.status, answer.body) == (200, DATA)


def test_if_range_guards_against_mixing_two_versions(ask: Ask) -> None:
    etag = ask("/model.onnx").headers["ETag"]
    assert ask("/model.onnx", Range="bytes=0-9", If_Range=etag).status == 206
    assert ask("/model.onnx", Range="bytes=0-9", If_Range='"older"').body == DATA


def test_a_range_is_never_of_the_compressed_bytes(ask: Ask) -> None:
    answer = ask("/app.js", Range="bytes=0-5", Accept_Encoding="gzip")
    assert (answer.status, answer.body) == (206, SCRIPT[:6]) and "Content-Encoding" not in answer.headers


@given(st.integers(0, 50), st.one_of(st.none(), st.integers(0, 60)), st.one_of(st.none(), st.integers(0, 60)))
def test_parse_range_selects_what_slicing_selects(size: int, first: int | None, last: int | None) -> None:
    text = f"{'' if first is None else first}-{'' if last is None else last}"
    whole = list(range(size))
    if first is None:
        expected = whole[-last:] if last else []
    else:
        expected = whole[first:] if last is None else whole[first : last + 1]
    try:
        found = parse_range(f"bytes={text}", size)
    except RangeError:
        assert expected == []
        return
    if found is None:
        assert (first is None and last is None) or (first is not None and last is not None and last < first)
    else:
        # an empty file has no last byte; the suffix of it is empty too
        assert whole[found[0] : found[1] + 1] == expected


def test_head_is_get_without_the_body(ask: Ask) -> None:
    for path in ("/app.js", "/model.onnx", "/nothing"):
        get, head = ask(path), ask(path, "HEAD")
        assert (head.status, head.body) == (get.status, b"")
        assert head.headers["Content-Length"] == get.headers["Content-Length"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_not_allowed(ask: Ask, method: str) -> None:
    answer = ask("/app.js", method)
    assert answer.status == 405 and answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "path",
    [
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/ui/..%2f..%2foutside.txt",
        "/ui/../../outside.txt",
        "/..\\outside.txt",
        "/%5c..%5coutside.txt",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/link.txt",
        "/.hidden",
        "/%2ehidden",
        "/dist/.gzip/x",
        "/vendor/x-1.0/right.wasm.part",
        "/app.js%00.html",
        "/app.js/",
        "/app.js/x",
        "/ui",
        "/ui/",
        "/vendor",
        "/%ff%fe",
        "/nothing",
    ],
)
def test_nothing_outside_no_dot_files_no_listing(ask: Ask, path: str) -> None:
    answer = ask(path)
    assert answer.status == 404 and b"secret" not in answer.body and b"style" not in answer.body


@given(st.text(max_size=30))
def test_a_path_never_leaves_its_folder(text: str) -> None:
    name = plain_path("/" + text)
    if name is not None:
        parts = name.split("/")
        assert not any(p in {"", ".", ".."} or p.startswith(".") for p in parts) and "\\" not in name


def test_a_query_and_a_percent_encoded_name(ask: Ask) -> None:
    assert ask("/app.js?v=1").body == SCRIPT
    assert ask("/space%20name.txt").body == b"spaced"
    assert ask("/empty.txt").body == b""


def test_mounts_and_bytes_beside_the_page(running: Server, ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "m.onnx").write_bytes(b"model")
    assert ask(running.site.mount("~/extra", tmp_path / "extra") + "m.onnx").body == b"model"
    assert ask(running.site.put("~/page.html", b"<p>")).headers["Content-Type"] == "text/html; charset=utf-8"


def test_a_malformed_request_is_answered_and_the_server_lives(running: Server, ask: Ask) -> None:
    with socket.create_connection(running.server_address[:2], timeout=60) as raw:
        raw.sendall(b"NONSENSE\r\n\r\n")
        assert b" 400 " in raw.recv(1000)
    assert ask("/").status == 200


def test_a_client_that_hangs_up_half_way_is_no_error(
    running: Server, web: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (web / "big.onnx").write_bytes(bytes(20_000_000))
    for _ in range(3):
        with socket.create_connection(running.server_address[:2], timeout=60) as raw:
            raw.sendall(b"GET /big.onnx HTTP/1.1\r\nHost: x\r\n\r\n")
            raw.recv(1000)
    running.shutdown()
    assert "Traceback" not in capfd.readouterr().err
    running.start()


def test_a_taken_port_is_told_with_the_next_step(running: Server, web: Path) -> None:
    port = running.server_address[1]
    with pytest.raises(SetupError) as error:
        Server(Site(web), port=port)
    text = str(error.value)
    assert f"port {port} on 127.0.0.1 is taken" in text and "--port" in text


def test_an_address_of_another_machine_is_told(web: Path) -> None:
    with pytest.raises(SetupError, match=r"cannot listen on 192\.0\.2\.1"):
        Server(Site(web), host="192.0.2.1")


def test_old_compressed_copies_are_forgotten(ask: Ask, running: Server) -> None:
    ask("/app.js", Accept_Encoding="gzip")
    (old,) = running.site.cache.iterdir()
    os.utime(old, (0, 0))
    ask("/worker.mjs", Accept_Encoding="gzip")
    (kept,) = running.site.cache.iterdir()
    assert kept != old
