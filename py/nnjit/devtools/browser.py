"""Finds a Chromium for the tests; returns its path.

First the system's own, then Playwright's, last Debian's package (as root). Each is asked for its version,
so one that lacks a library is passed over with the reason.
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


def does_not_start(path: str) -> str | None:
    """None when `path --version` works, else why it does not."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=False)
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
    if shutil.which("apt-get") is None:
        return None, "Debian's package: this is no Debian system"
    if os.geteuid() != 0:
        return None, "Debian's package: needs root; try: sudo apt-get install chromium"
    say("install Debian's chromium")
    quiet = {"capture_output": True, "text": True, "check": False}
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-q"], env=env, **quiet)  # type: ignore[call-overload]
    done = subprocess.run(  # type: ignore[call-overload]
        ["apt-get", "install", "-qy", "--no-install-recommends", "chromium"], env=env, **quiet
    )
    path = shutil.which("chromium")
    if path is None:
        return None, f"Debian's package: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"
    problem = does_not_start(path)
    return (None, f"Debian's chromium: {problem}") if problem else (path, "")
