"""All tests in three runs: each file is in one of them, what fails is told, two are at work at the same time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nnjit.devtools import suite
from nnjit.devtools.cli import ROOT

# Stands in for pytest: says what it was given; the run of tests/unit fails where it is told to; the first two wait for
# each other.
STAND_IN = """
import pathlib, sys, time
here, fails, *given = sys.argv[1:]
kind = "rest" if not any(not a.startswith("--") for a in given) else "second" if "tests/unit" in given else "first"
(pathlib.Path(here) / kind).touch()
other = {"first": "second", "second": "first"}.get(kind)
for _ in range(3000):
    if not other or (pathlib.Path(here) / other).exists():
        break
    time.sleep(0.01)
else:
    sys.exit(9)
print("ran", kind, flush=True)
sys.exit(int(kind == fails))
"""


def test_each_file_is_in_one_run() -> None:
    files = [p.relative_to(ROOT).as_posix() for p in (ROOT / "tests").rglob("test_*.py")]
    assert len(files) > 100
    for file in files:
        within = []
        for arguments in suite.shares():
            wanted = [a for a in arguments if not a.startswith("--")] or ["tests"]
            ignored = [a.removeprefix("--ignore=") for a in arguments if a.startswith("--")]
            under = lambda folder, file=file: file.startswith(f"{folder}/")  # noqa: E731
            within.append(any(map(under, wanted)) and not any(map(under, ignored)))
        assert sum(within) == 1, (file, within)
    for folder in (*suite.FIRST, *suite.BESIDE):
        assert (ROOT / folder).is_dir()


@pytest.mark.parametrize(("fails", "code"), [("none", 0), ("first", 1), ("second", 1), ("rest", 1)])
def test_what_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fails: str, code: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    said: list[str] = []
    command = [sys.executable, "-c", STAND_IN, str(tmp_path), fails]
    assert suite.run_all(command, tmp_path, os.environ, said.append) == code
    assert said == ["ran second\n"] + [suite.EARLIER] * (fails in ("first", "second"))
    assert capfd.readouterr().out == "ran first\nran rest\n"
