"""Finds browsers for the tests; returns the path of a program.

A Chromium: first the system's own, then Playwright's, last Debian's package (as root). Each is asked for its version,
so one that lacks a library is passed over with the reason. Others: Firefox, and WebKit by the program that drives it,
from the system or Debian's packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from .lock import SetupError
from .transfer import Say

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES = ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",)
FIREFOX = ("firefox", "firefox-esr")
FIREFOX_PLACES = ("/Applications/Firefox.app/Contents/MacOS/firefox",)
WEBKIT = ("WebKitWebDriver", "safaridriver")
"""Programs that drive a WebKit: WebKitGTK's and Safari's."""
APT_S = 120
"""A browser that the tests can do without is given up when Debian's package takes longer."""
PLAYWRIGHT_PATH = """
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    print(playwright.chromium.executable_path)
"""


def find_chromium(python: Path, say: Say) -> str:
    """Path of a Chromium that starts; SetupError with what was tried. NNJIT_CHROMIUM overrides."""
    tried: list[str] = []
    wanted = os.environ.get("NNJIT_CHROMIUM")
    if wanted:
        problem = does_not_start(wanted)
        if problem:
            raise SetupError(f"NNJIT_CHROMIUM={wanted} does not start: {problem}")
        return wanted
    for found in [shutil.which(name) for name in NAMES] + [p for p in PLACES if Path(p).exists()]:
        if found is None:
            continue
        problem = does_not_start(found)
        if problem is None:
            return found
        tried.append(f"{found}: {problem}")
    for way in (_playwright, _debian):
        path, problem = way(python, say)
        if path is not None:
            return path
        tried.append(problem)
    raise SetupError(
        "no Chromium for the browser tests; install chromium or Google Chrome.\n  " + "\n  ".join(tried)
    )


def find_firefox(say: Say, install: bool = True) -> str:
    """Path of a Firefox that starts; SetupError with what was tried. NNJIT_FIREFOX overrides. Without `install` only
    the system's own are looked at; with it Debian's package is installed where there is none (as root)."""
    return _other("Firefox", "NNJIT_FIREFOX", FIREFOX, FIREFOX_PLACES, ["firefox-esr"], say, install)


def find_webkit(say: Say, install: bool = True) -> str:
    """Path of a program that drives a WebKit; as find_firefox, NNJIT_WEBKIT overrides."""
    packages = ["webkit2gtk-driver", "xvfb"]
    return _other("WebKit", "NNJIT_WEBKIT", WEBKIT, (), packages, say, install, "--help")


def _other(
    name: str,
    variable: str,
    names: tuple[str, ...],
    places: tuple[str, ...],
    packages: list[str],
    say: Say,
    install: bool,
    question: str = "--version",
) -> str:
    wanted = os.environ.get(variable)
    found = [wanted] if wanted else [path for path in map(shutil.which, names) if path]
    found += [] if wanted else [path for path in places if Path(path).exists()]
    tried = []
    for path in found:
        problem = does_not_start(path, question)
        if problem is None:
            return path
        tried.append(f"{path}: {problem}")
    if install and not wanted:
        made, problem = _from_debian(packages, names, say, APT_S, question)
        if made is not None:
            return made
        tried.append(problem)
    raise SetupError(
        f"no {name} for the tests: " + ("; ".join(tried) or f"none of {', '.join(names)} is there")
    )


def does_not_start(path: str, question: str = "--version") -> str | None:
    """None when the program answers, else why it does not."""
    try:
        done = subprocess.run([path, question], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]


def _playwright(python: Path, say: Say) -> tuple[str | None, str]:
    found = subprocess.run([str(python), "-c", PLAYWRIGHT_PATH], capture_output=True, text=True, check=False)
    path = found.stdout.strip()
    if not path:
        return None, "Playwright: does not start"
    if not Path(path).exists():
        say("fetch Playwright's Chromium")
        done = subprocess.run(
            [str(python), "-m", "playwright", "install", "--only-shell", "chromium"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode and not Path(path).exists():
            lines = [line for line in done.stderr.splitlines() if "rror" in line]
            return None, "Playwright's Chromium: " + (lines[0].strip() if lines else "cannot be fetched")
    problem = does_not_start(path)
    return (None, f"Playwright's Chromium: {problem}") if problem else (path, "")


def _debian(_: Path, say: Say) -> tuple[str | None, str]:
    return _from_debian(["chromium"], ("chromium",), say)


def _from_debian(
    packages: list[str],
    names: tuple[str, ...],
    say: Say,
    seconds: float | None = None,
    question: str = "--version",
) -> tuple[str | None, str]:
    """Path of the first program of `names` after Debian's packages are installed; else None and the reason."""
    if shutil.which("apt-get") is None:
        return None, "Debian's package: this is no Debian system"
    if os.geteuid() != 0:
        return None, f"Debian's package: needs root; try: sudo apt-get install {' '.join(packages)}"
    say(f"install Debian's {' '.join(packages)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-qy", "--no-install-recommends", *packages]
    reason = "failed"
    for command in (["apt-get", "update", "-q"], install):
        try:
            done = subprocess.run(
                command, env=env, capture_output=True, text=True, check=False, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return None, f"Debian's package: apt-get took longer than {seconds} s"
        reason = (done.stderr.strip().splitlines() or ["failed"])[-1]
    path = next((found for found in map(shutil.which, names) if found), None)
    if path is None:
        return None, f"Debian's package: {reason}"
    problem = does_not_start(path, question)
    return (None, f"Debian's {packages[0]}: {problem}") if problem else (path, "")
