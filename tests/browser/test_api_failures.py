"""What breaks from outside: a transfer half way, a worker that dies. The rest goes on."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from .api_page import Api, tiny, tiny_weight, two_outputs


def padded() -> bytes:
    """The tiny model with a megabyte of text, so that half of it is more than the browser reads at once."""
    made = tiny()
    made.doc_string = "word " * 200_000
    return made.SerializeToString()


ROW = [max(v, 0.0) for v in tiny_weight().sum(0).tolist()]


class Flaky(http.server.BaseHTTPRequestHandler):
    """/<behaviour>: sends half the model and hangs up, as often as the behaviour says; /read/<bytes>: so much was read.

    An error discards what waits to be read, so the end comes once the page has read all that was sent."""

    protocol_version = "HTTP/1.1"
    data = padded()
    seen: list[tuple[str, str | None]]
    read: threading.Condition
    got: int

    def do_GET(self) -> None:
        behaviour, asked = self.path.strip("/"), self.headers.get("Range")
        if behaviour.startswith("read/"):
            with self.read:
                type(self).got = max(self.got, int(behaviour.removeprefix("read/")))
                self.read.notify_all()
            self.send_response(204)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()
            return
        self.seen.append((behaviour, asked))
        first = sum(b == behaviour for b, _ in self.seen) == 1
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and behaviour != "no-ranges" else 0
        body = self.data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Cross-Origin-Resource-Policy", "cross-origin")
        changed = behaviour == "changed" and not first
        self.send_header("Last-Modified", f"Sun, 0{2 if changed else 1} Nov 2026 00:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if first or behaviour == "always":
            half = len(body) // 2
            self.wfile.write(body[:half])
            self.wfile.flush()
            with self.read:
                self.read.wait_for(lambda: self.got >= start + half, 60)
            self.connection.shutdown(2)
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def flaky() -> Iterator[tuple[str, type[Flaky]]]:
    """(address, what the server has seen), each test's own: what a page has read is told late, too, maybe to a server
    whose test is over."""
    handler = type("Handler", (Flaky,), {"seen": [], "read": threading.Condition(), "got": 0})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}", handler
    running.shutdown()
    running.server_close()


HALF = len(Flaky.data) // 2


@pytest.mark.parametrize(
    ("behaviour", "ranges"),
    [
        ("resumes", [None, f"bytes={HALF}-"]),
        ("no-ranges", [None, f"bytes={HALF}-"]),
        ("changed", [None, f"bytes={HALF}-", None]),
    ],
)
def test_a_transfer_that_broke_is_taken_up_once(
    booted: Api, flaky: tuple[str, type[Flaky]], behaviour: str, ranges: list[str | None]
) -> None:
    url, server = flaky
    with booted.expecting("ERR_CONTENT_LENGTH_MISMATCH", "Failed to load"):
        got = booted.run(
            """async ([url, read]) => {
              const progress = (stage, done) => stage === 'model' && fetch(read + done);
              const session = await create(url, { progress });
              const { z } = await session.run({ x: T('float32', [1, 1, 1, 1], [1, 4]) });
              await session.release();
              return [...z.data];
            }""",
            [f"{url}/{behaviour}", f"{url}/read/"],
        )
    assert got == ROW
    assert [asked for _, asked in server.seen] == ranges


def test_a_transfer_that_breaks_again_is_an_error_with_its_bytes(
    booted: Api, flaky: tuple[str, type[Flaky]]
) -> None:
    url, _ = flaky
    with booted.expecting("ERR_CONTENT_LENGTH_MISMATCH", "Failed to load"):
        error = booted.failure(
            "await create(arg[0], { progress: (stage, done) => stage === 'model' && fetch(arg[1] + done) })",
            [f"{url}/always", f"{url}/read/"],
        )
    assert error["code"] == "NETWORK" and error["hint"]
    assert error["fields"]["url"] == f"{url}/always"
    assert HALF < error["fields"]["received"] < len(Flaky.data) == error["fields"]["expected"]


def test_a_missing_file_and_a_dead_server_are_named(booted: Api) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/model.onnx"
    with booted.expecting("404", "ERR_CONNECTION_REFUSED"):
        missing = booted.failure("await create('/no/such/model.onnx')")
        refused = booted.failure("await create(arg)", url)
    assert missing["code"] == "NETWORK" and missing["fields"]["status"] == 404
    assert refused["code"] == "NETWORK" and refused["fields"]["url"] == url


@pytest.fixture(scope="module")
def doomed(new_page: Any, server: Any) -> Iterator[Api]:
    """A page of its own, whose workers are killed."""
    with new_page(allowed=[".*"]) as opened:
        yield Api(opened, server)


@pytest.mark.parametrize("how", ["self.close", "fatal"])
def test_a_dead_compiler_is_reported_and_restarted(doomed: Api, how: str) -> None:
    got = doomed.run(
        """async ({ tiny, two, how }) => {
          const heard = [];
          const stop = nnjit.onDeath((which, error) => heard.push([which, error.code]));
          const session = await create(tiny);
          const other = await create(two, { executionProviders: ['reference'] });
          const feed = (n) => ({ x: T('float32', new Float32Array(4 * n).fill(1), [n, 4]) });
          const pair = { a: T('float32', [1, 2]), b: T('float32', [1, 2]) };
          await session.run(feed(1));
          await other.run(pair);
          const pending = failure(nnjit.python(how === 'fatal'
            ? 'import pyodide_js; pyodide_js._api.fatal_error(__import__("js").Error.new("out of memory"))'
            : 'import js, asyncio; js.self.close(); await asyncio.sleep(60)'));
          const killed = await pending;
          const state = [session.state, other.state];
          // A plan that is all kernels needs no compiler; new shapes and the reference do.
          const known = plain((await session.run(feed(1))).z).data;
          const unknown = await failure(session.run(feed(2)));
          const reference = await failure(other.run(pair));
          const fresh = await failure(create(tiny));
          await nnjit.restart();
          const one = plain((await session.run(feed(1))).z).data;
          const two_ = plain((await session.run(feed(2))).z).data;
          const after = [one, two_, plain((await other.run(pair)).sum).data];
          const again = [session.state, other.state];
          await Promise.all([session.release(), other.release()]);
          stop();
          const codes = [unknown, reference, fresh].map((e) => e.code);
          const memory = (await nnjit.device()).memory.sessions;
          return { heard, killed, state, known, codes, hint: unknown.hint, after, again, memory };
        }""",
        {"tiny": doomed.put("tiny.onnx", tiny()), "two": doomed.put("two.onnx", two_outputs()), "how": how},
    )
    assert got["heard"] == [["compiler", "COMPILER_DIED"]]
    assert got["killed"]["code"] == "COMPILER_DIED"
    assert got["state"] == ["compiler-died", "compiler-died"]
    assert got["known"] == ROW
    assert got["codes"] == ["COMPILER_DIED"] * 3 and "restart" in got["hint"]
    assert got["after"] == [ROW, ROW * 2, [2, 4]]
    assert got["again"] == ["ready", "ready"] and got["memory"] == []


def test_a_dead_engine_is_reported_and_restarted(doomed: Api) -> None:
    doomed.run(
        """async ({ tiny, two }) => {
          const heard = [];
          const stop = nnjit.onDeath((which, error) => heard.push([which, error.code]));
          const session = await create(tiny);
          const other = await create(two, { executionProviders: ['reference'] });
          const feed = { x: T('float32', [1, 1, 1, 1], [1, 4]) };
          const pair = { a: T('float32', [1, 2]), b: T('float32', [1, 2]) };
          await session.run(feed);
          window.kept = { heard, stop, session, other, feed, pair };
        }""",
        {"tiny": doomed.put("tiny.onnx", tiny()), "two": doomed.put("two.onnx", two_outputs())},
    )
    (engine,) = [w for w in doomed.page.workers if "engine.worker.js" in w.url]
    engine.evaluate("self.close()")
    got = doomed.run(
        """async () => {
          const { heard, stop, session, other, feed, pair } = kept;
          // a short run does not need the engine, and would go well until its death is known
          await until(() => heard.length);
          const died = await failure(session.run(feed));
          const state = [session.state, other.state];
          const reference = plain((await other.run(pair)).sum).data;
          await nnjit.restart();
          const after = plain((await session.run(feed)).z).data;
          await Promise.all([session.release(), other.release()]);
          stop();
          return { heard, died, state, reference, after, memory: (await nnjit.device()).memory.sessions };
        }"""
    )
    assert got["heard"] == [["engine", "ENGINE_DIED"]]
    assert got["died"]["code"] == "ENGINE_DIED" and got["state"] == ["engine-died", "ready"]
    assert got["reference"] == [2, 4] and got["after"] == ROW and got["memory"] == []
