"""A window of a browser that Playwright cannot drive, with those of Playwright's calls that tests of the page and its
API are made of: `Tab(remote, base_url)`. A test that asks for more of it is skipped and says for what.
"""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from .remote import ANSWER_S, Remote, RemoteError
from .waiting import WAITING

# Firefox runs a driver's scripts in a realm of their own, with arrays that are not the page's: what is asked for is
# evaluated by the page itself. The value goes back as JSON text: drivers differ in what becomes of undefined and NaN.
CALL = """const [source, argument, done] = arguments;
const page = window.wrappedJSObject ?? window;
page.eval(`async (source, argument, done) => {
  try {
    const it = (0, eval)('(' + source + '\\\\n)');
    done(JSON.stringify(await (typeof it === 'function' ? it(JSON.parse(argument)) : it)) ?? 'null', '');
  } catch (error) {
    done('', error + '\\\\n' + error?.stack);
  }
}`)(source, argument, (value, error) => done({ value, error }));"""
# What a page reports from now on.
LISTEN = """() => {
  if (globalThis.reported) return;
  globalThis.reported = [];
  const { error } = console;
  console.error = (...all) => { reported.push(`console: ${all.join(' ')}`); error.apply(console, all); };
  addEventListener('error', (event) => reported.push(`uncaught: ${event.message}`));
  addEventListener('unhandledrejection', (event) => reported.push(`uncaught: ${event.reason?.stack ?? event.reason}`));
}"""
POLL_S = 0.05


class Tab:
    def __init__(self, remote: Remote, base_url: str) -> None:
        self.remote, self.base_url = remote, base_url.rstrip("/")
        remote.ask("SwitchToWindow", {"handle": remote.home})  # the last one in use may be closed
        self.handle = str(remote.ask("NewWindow", {"type": "tab"})["handle"])
        limit = 1000 * int(ANSWER_S - 10)
        self._ask("SetTimeouts", {"script": limit, "pageLoad": limit})

    def goto(self, path: str) -> None:
        self._ask("Navigate", {"url": path if "://" in path else self.base_url + path})
        self.evaluate(LISTEN)
        self.evaluate(WAITING)

    def evaluate(self, script: str, arg: Any = None) -> Any:
        """The value of an expression, or of a function called with `arg`, once its promise is settled."""
        answer = self._ask("ExecuteAsyncScript", {"script": CALL, "args": [script, json.dumps(arg)]})
        if answer["error"]:
            raise RemoteError(answer["error"])
        return json.loads(answer["value"])

    @property
    def url(self) -> str:
        return str(self.evaluate("location.href"))

    def errors(self) -> list[str]:
        """What the page has reported so far."""
        found: list[str] = self.evaluate("globalThis.reported ?? []")
        return found

    def on(self, _event: str, _listener: object) -> None:
        """Events do not come here; errors() has what the page reported."""

    def wait_for_function(self, script: str, arg: Any = None, timeout: float = 1000 * ANSWER_S) -> None:
        end = time.monotonic() + timeout / 1000
        true = (
            f"async (arg) => {{ const it = ({script}\n); return Boolean(await (it?.call ? it(arg) : it)); }}"
        )
        while not self.evaluate(true, arg):
            if time.monotonic() > end:
                raise TimeoutError(f"not so within {timeout / 1000:.0f} s: {script}")
            time.sleep(POLL_S)

    def wait_for_selector(self, selector: str, timeout: float = 1000 * ANSWER_S) -> None:
        """It is there and seen."""
        self.wait_for_function("s => !!document.querySelector(s)?.checkVisibility()", selector, timeout)

    def click(self, selector: str) -> None:
        self.wait_for_selector(selector)
        self.evaluate("s => document.querySelector(s).click()", selector)

    def inner_text(self, selector: str) -> str:
        self.wait_for_selector(selector)
        return str(self.evaluate("s => document.querySelector(s).innerText", selector))

    def text_content(self, selector: str) -> str | None:
        found: str | None = self.evaluate("s => document.querySelector(s)?.textContent ?? null", selector)
        return found

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._ask("TakeScreenshot", {})))

    @property
    def context(self) -> Tab:
        """Of its own there is none: what ends it is to close the window."""
        return self

    def close(self) -> None:
        self._ask("CloseWindow", {})

    def __getattr__(self, name: str) -> Any:
        pytest.skip(f"{self.remote.name} is not driven by Playwright: no page.{name}")

    def _ask(self, command: str, parameters: dict[str, Any]) -> Any:
        self.remote.ask("SwitchToWindow", {"handle": self.handle})
        return self.remote.ask(command, parameters)
