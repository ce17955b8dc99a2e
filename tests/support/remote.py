"""Browsers that Playwright cannot drive: Firefox by its own Marionette protocol, WebKit through a WebDriver program.

`firefox(path)` and `webkit(path)` start one and give a `Remote`: asks the commands of WebDriver (https://www.w3.org/TR/webdriver2/)
by their names there and gives their values. What tests use is tab.py's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

START_S = 60.0
ANSWER_S = 180.0
Command = dict[str, Any]
Ask = Callable[[str, Command], Any]

# Nothing is fetched, reported, updated or shown but the tests' own pages.
PREFERENCES: dict[str, str | int | bool] = {
    "app.normandy.enabled": False,
    "app.update.auto": False,
    "app.update.disabledForTesting": True,
    "browser.aboutwelcome.enabled": False,
    "browser.safebrowsing.downloads.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "browser.translations.enable": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.ipc.processPrelaunch.enabled": False,
    "extensions.update.enabled": False,
    "marionette.port": 0,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "network.proxy.type": 1,  # addresses of this machine go past it
    "remote.prefs.recommended": True,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.server": "",
}

# What WebDriver's commands are over HTTP: method and path below the session.
OVER_HTTP = {
    "SetTimeouts": ("POST", "/timeouts"),
    "Navigate": ("POST", "/url"),
    "NewWindow": ("POST", "/window/new"),
    "GetWindowHandle": ("GET", "/window"),
    "SwitchToWindow": ("POST", "/window"),
    "CloseWindow": ("DELETE", "/window"),
    "ExecuteAsyncScript": ("POST", "/execute/async"),
    "TakeScreenshot": ("GET", "/screenshot"),
}


class RemoteError(Exception):
    """What the browser or its driver said went wrong."""


class Remote:
    """A running browser. ask(command, parameters): the command's value, or RemoteError; home: a window that stays."""

    def __init__(self, name: str, version: str, pids: list[int], ask: Ask) -> None:
        self.name, self.version, self.pids, self.ask = name, version, pids, ask
        self.home = str(ask("GetWindowHandle", {}))


@contextmanager
def firefox(path: str, more: Mapping[str, str | int | bool] | None = None) -> Iterator[Remote]:
    """A headless Firefox with a profile of its own; `more`: preferences on top of those above."""
    with tempfile.TemporaryDirectory(prefix="nnjit-firefox", ignore_cleanup_errors=True) as home:
        profile = Path(home) / "profile"
        profile.mkdir()
        preferences = {**PREFERENCES, **(more or {})}
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in preferences.items()]
        (profile / "user.js").write_text("\n".join(lines))
        command = [path, "--headless", "--marionette", "--no-remote", "--profile", str(profile)]
        with started(
            command, {"HOME": home, "MOZ_HEADLESS": "1", "MOZ_CRASHREPORTER_DISABLE": "1"}
        ) as running:
            told = profile / "MarionetteActivePort"
            port = until(running, lambda: told.exists() and told.read_text().strip())
            with socket.create_connection(("127.0.0.1", int(port)), timeout=ANSWER_S) as line:
                wire = Marionette(line)
                capabilities = wire.ask("NewSession", {})["capabilities"]
                yield Remote("firefox", capabilities["browserVersion"], [running.pid], wire.ask)


class Marionette:
    """Firefox's end of a socket: messages are JSON with their length and a colon before them, [0, id, command,
    parameters] out and [1, id, error, value] back (https://firefox-source-docs.mozilla.org/testing/marionette/)."""

    def __init__(self, line: socket.socket) -> None:
        self.line, self.id = line, 0
        self._receive()  # it introduces itself

    def ask(self, command: str, parameters: Command) -> Any:
        self.id += 1
        text = json.dumps([0, self.id, f"WebDriver:{command}", parameters]).encode()
        try:
            self.line.sendall(b"%d:%s" % (len(text), text))
        except OSError as error:
            raise RemoteError(f"Firefox is gone: {error}") from None
        while True:
            _, number, error, value = self._receive()
            if number == self.id:
                break
        if error:
            raise RemoteError(f"{error['error']}: {error['message']}")
        return value["value"] if isinstance(value, dict) and set(value) == {"value"} else value

    def _receive(self) -> Any:
        head = b""
        while not head.endswith(b":"):
            head += self._some(1)
        left = int(head[:-1])
        body = bytearray()
        while len(body) < left:
            body += self._some(left - len(body))
        return json.loads(body)

    def _some(self, most: int) -> bytes:
        try:
            found = self.line.recv(most)
        except OSError as error:
            raise RemoteError(f"Firefox does not answer: {error}") from None
        if not found:
            raise RemoteError("Firefox is gone")
        return found


@contextmanager
def webkit(path: str, shares: bool = True) -> Iterator[Remote]:
    """A WebKit that the program at `path` starts and drives: WebKitGTK's MiniBrowser, or Safari. shares: isolated pages
    have shared memory as in Safari; WebKitGTK as it is installed gives none."""
    with (
        screen() as display,
        socket.socket() as free,
        tempfile.TemporaryDirectory(prefix="nnjit-webkit", ignore_cleanup_errors=True) as home,
    ):
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        places = ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR")
        variables = {
            **dict.fromkeys(places, home),
            "DISPLAY": display,
            "JSC_useSharedArrayBuffer": str(int(shares)),
        }
        with started([path, f"--port={port}"], variables) as running:
            address = f"http://127.0.0.1:{port}"
            until(running, lambda: _over_http("GET", f"{address}/status", None, 5) is not None)
            wanted: Command = {}
            if mini := mini_browser():
                wanted = {"webkitgtk:browserOptions": {"binary": mini, "args": ["--automation"]}}
            made = _over_http(
                "POST", f"{address}/session", {"capabilities": {"alwaysMatch": wanted}}, START_S
            )
            session = f"{address}/session/{made['sessionId']}"

            def ask(command: str, parameters: Command) -> Any:
                method, below = OVER_HTTP[command]
                return _over_http(method, session + below, parameters if method == "POST" else None, ANSWER_S)

            try:
                yield Remote("webkit", made["capabilities"].get("browserVersion", ""), [running.pid], ask)
            finally:
                with suppress(RemoteError):
                    _over_http("DELETE", session, None, 10)


def mini_browser() -> str | None:
    """WebKitGTK's own small browser, which the driver would look for under another name."""
    found = sorted(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"))
    return str(found[-1]) if found else None


def _over_http(method: str, url: str, body: Command | None, seconds: float) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        value = json.load(error)["value"]
        raise RemoteError(f"{value['error']}: {value['message']}") from None
    except OSError as error:
        raise RemoteError(f"the driver does not answer: {error}") from None


@contextmanager
def started(command: list[str], variables: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a process group of its own, which ends with the block."""
    running = subprocess.Popen(
        command,
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def until(running: subprocess.Popen[bytes], found: Callable[[], Any]) -> Any:
    """What `found` gives once it is something; RemoteError when the program ends before, or takes too long."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and running.poll() is None:
        with suppress(RemoteError):
            if value := found():
                return value
        time.sleep(0.05)
    raise RemoteError(f"the browser did not start (exit status {running.poll()})")


@contextmanager
def screen() -> Iterator[str]:
    """A display for a browser that cannot do without: the machine's, or a virtual one."""
    shown = os.environ.get("DISPLAY", "")
    program = shutil.which("Xvfb")
    if shown or program is None:
        yield shown
        return
    told, tells = os.pipe()
    running = subprocess.Popen(
        [program, "-displayfd", str(tells), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"],
        pass_fds=[tells],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(tells)
    try:
        with os.fdopen(told) as pipe:
            yield f":{pipe.readline().strip()}"
    finally:
        running.kill()
        running.wait()
