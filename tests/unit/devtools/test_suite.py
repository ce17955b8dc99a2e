"""All tests in four runs: each file is in one of them, what fails is told, two are at work at the same time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nnjit.devtools import suite
from nnjit.devtools.cli import ROOT

# Stands in for pytest: says what it was given, and fails where it is told to; those of a pair wait for each other.
STAND_IN = """
import pathlib, sys, time
here, fails, *given = sys.argv[1:]
wanted = [a for a in given if not a.startswith("--")]
about = {"tests/unit": "unit", "tests/device": "shorter"}
kind = next((about[a] for a in wanted if a in about), "first" if wanted else "rest")
(pathlib.Path(here) / kind).touch()
other = {"first": "unit", "unit": "first", "rest": "shorter", "shorter": "rest"}[kind]
for _ in range(3000):
    if (pathlib.Path(here) / other).exists():
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
    runs = [arguments for pair in suite.shares() for arguments in pair]
    for file in files:
        within = []
        for arguments in runs:
            wanted = [a for a in arguments if not a.startswith("--")] or ["tests"]
            ignored = [a.removeprefix("--ignore=") for a in arguments if a.startswith("--")]
            under = lambda path, file=file: file == path or file.startswith(f"{path}/")  # noqa: E731
            within.append(any(map(under, wanted)) and not any(map(under, ignored)))
        assert sum(within) == 1, (file, within)
    for path in (*suite.FIRST, *suite.BESIDE, *suite.SHORTER):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("fails", ["none", "first", "unit", "rest", "shorter"])
def test_what_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], fails: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    said: list[str] = []
    command = [sys.executable, "-c", STAND_IN, str(tmp_path), fails]
    assert suite.run_all(command, tmp_path, os.environ, said.append) == int(fails != "none")
    assert said == ["ran unit\n", "ran shorter\n"] + [suite.EARLIER] * (fails in ("first", "unit"))
    assert capfd.readouterr().out == "ran first\nran rest\n"


def test_one_core_does_one_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    alone = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.mkdir(); p.rmdir()"
    fails = "sys.exit('tests/device' in sys.argv)"
    command = [sys.executable, "-c", f"{alone}; {fails}", str(tmp_path / "busy")]
    said: list[str] = []
    assert suite.run_all(command, tmp_path, os.environ, said.append) == 1
    assert said == []
