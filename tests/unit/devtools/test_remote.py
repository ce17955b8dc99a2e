"""Browsers asked from outside: Firefox's messages on a socket, a browser that ends or never begins."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import remote
from tests.support.remote import Marionette, RemoteError, started, until


def message(value: Any) -> bytes:
    text = json.dumps(value).encode()
    return b"%d:%s" % (len(text), text)


@pytest.fixture
def ends() -> Iterator[tuple[Marionette, socket.socket]]:
    """A client, and the browser's end of its socket, which has introduced itself."""
    ours, theirs = socket.socketpair()
    theirs.sendall(message({"applicationType": "gecko", "marionetteProtocol": 3}))
    with ours, theirs:
        ours.settimeout(20)
        yield Marionette(ours), theirs


def asked(theirs: socket.socket) -> Any:
    length, _, body = theirs.recv(4096).partition(b":")
    assert len(body) == int(length)
    return json.loads(body)


def test_a_command_goes_out_and_its_value_comes_back(ends: tuple[Marionette, socket.socket]) -> None:
    wire, theirs = ends
    answer = message([1, 1, None, {"value": {"größe": "x" * 5000}}])

    def browser() -> None:
        assert asked(theirs) == [0, 1, "WebDriver:Navigate", {"url": "about:blank"}]
        for piece in (answer[:1], answer[1:9], answer[9:]):  # a socket gives what has come
            theirs.sendall(piece)

    other = threading.Thread(target=browser)
    other.start()
    assert wire.ask("Navigate", {"url": "about:blank"}) == {"größe": "x" * 5000}
    other.join()


def test_an_answer_to_something_else_is_passed_over(ends: tuple[Marionette, socket.socket]) -> None:
    wire, theirs = ends
    theirs.sendall(
        message([1, 7, None, {"value": 1}]) + message([1, 1, None, {"handle": "a", "type": "tab"}])
    )
    assert wire.ask("NewWindow", {}) == {"handle": "a", "type": "tab"}


def test_what_the_browser_refuses_is_an_error(ends: tuple[Marionette, socket.socket]) -> None:
    wire, theirs = ends
    theirs.sendall(message([1, 1, {"error": "no such window", "message": "closed", "stacktrace": ""}, None]))
    with pytest.raises(RemoteError, match="no such window: closed"):
        wire.ask("CloseWindow", {})


def test_a_browser_that_is_gone_is_an_error(ends: tuple[Marionette, socket.socket]) -> None:
    wire, theirs = ends
    theirs.sendall(b"10:[1, ")
    theirs.close()
    with pytest.raises(RemoteError, match="gone"):
        wire.ask("GetWindowHandle", {})


def test_a_program_that_ends_or_does_not_begin_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        started([sys.executable, "-c", "raise SystemExit(3)"], {}) as running,
        pytest.raises(RemoteError, match="exit status 3"),
    ):
        until(running, lambda: None)
    monkeypatch.setattr(remote, "START_S", 0.1)
    silent = [sys.executable, "-c", "import time; time.sleep(60)"]
    with started(silent, {}) as running, pytest.raises(RemoteError, match="None"):
        until(running, lambda: None)
    assert running.poll() is not None
