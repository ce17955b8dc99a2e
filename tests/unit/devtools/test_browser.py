"""Which browser the tests take: the one that is named, the first that starts, or a reason why there is none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nnjit.devtools import browser, cli
from nnjit.devtools.lock import SetupError

Put = Callable[..., str]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """put(name, "exit 0"): a program of that name, the only ones there are."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(browser, "FIREFOX_PLACES", ())
    for name in ("NNJIT_FIREFOX", "NNJIT_WEBKIT"):
        monkeypatch.delenv(name, raising=False)

    def write(name: str, does: str = "exit 0") -> str:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)
        return str(path)

    return write


def test_the_first_that_starts_is_taken(put: Put) -> None:
    put("firefox", "echo no library >&2; exit 1")
    good = put("firefox-esr", '[ "$1" = --version ]')
    assert browser.find_firefox(print, install=False) == good


def test_what_was_tried_is_told(put: Put) -> None:
    with pytest.raises(SetupError, match="none of firefox, firefox-esr"):
        browser.find_firefox(print, install=False)
    put("firefox", "echo no library >&2; exit 1")
    with pytest.raises(SetupError, match="firefox: no library"):
        browser.find_firefox(print, install=False)


def test_one_that_is_named_is_taken_or_refused(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    put("firefox")
    monkeypatch.setenv("NNJIT_FIREFOX", mine := put("mine"))
    assert browser.find_firefox(print) == mine
    monkeypatch.setenv("NNJIT_FIREFOX", put("broken", "exit 3"))
    with pytest.raises(SetupError, match="exit status 3"):
        browser.find_firefox(print)


def test_a_webkit_is_its_driver(put: Put) -> None:
    good = put("WebKitWebDriver", '[ "$1" = --help ]')  # it knows no --version
    assert browser.find_webkit(print, install=False) == good


def test_debians_package_is_tried_last(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with pytest.raises(SetupError, match="no Debian system"):
        browser.find_firefox(said.append)
    put("apt-get", "echo 'E: no network' >&2; exit 100")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SetupError, match="sudo apt-get install firefox-esr"):
        browser.find_firefox(said.append)
    assert not said
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SetupError, match="E: no network"):
        browser.find_firefox(said.append)
    assert said == ["install Debian's firefox-esr"]


def test_an_installer_that_hangs_is_given_up(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    put("apt-get", "exec /bin/sleep 60")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(browser, "APT_S", 0.2)
    with pytest.raises(SetupError, match=r"longer than 0\.2 s"):
        browser.find_firefox(print)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], ""),
        (["tests/unit", "-q"], ""),
        (["--browser", "chromium"], ""),
        (["--browser", "firefox"], "firefox"),
        (["-q", "--browser=webkit"], "webkit"),
        (["--browser", "webkit-unshared", "tests/others"], "webkit-unshared"),
        (["--browser"], ""),
    ],
)
def test_the_browser_of_a_command(arguments: list[str], named: str) -> None:
    assert cli.other_browser(arguments) == named
