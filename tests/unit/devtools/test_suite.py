"""All tests in two processes: each file is run once, by one of them, until the two meet; what fails is told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from nnjit.devtools import suite, taking
from nnjit.devtools.cli import ROOT

PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-q"]
VARIABLES = {**os.environ, "PYTHONPATH": str(ROOT / "py")}
CONFTEST = """
import pathlib, pytest, time
HERE = pathlib.Path(__file__).parent

def note(text):
    with open(HERE / "notes", "a") as file:
        file.write(text + "\\n")

@pytest.fixture(scope="session")
def page():
    note("page opened")
    until = time.monotonic() + 60
    while (HERE / "together").exists() and (HERE / "notes").read_text().count("page opened") < 2:
        assert time.monotonic() < until, "the other process runs no test"
        time.sleep(0.01)
    yield
    note("page closed")

@pytest.fixture(scope="module")
def part(request):
    yield
    note(f"end of {request.path.stem}")

@pytest.fixture
def seen(request, page, part):
    assert request.config.rootpath == HERE and "own: of this project" in request.config.getini("markers")
    note(request.node.name)
"""


def project(folder: Path, files: dict[str, str]) -> Path:
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = own: of this project\n")
    (folder / "conftest.py").write_text(CONFTEST)
    for name, body in files.items():
        (folder / f"test_{name}.py").write_text(
            f"def test_{name}_1(seen): pass\ndef test_{name}_2(seen): {body}\n"
        )
    return folder


def notes(folder: Path) -> list[str]:
    return (folder / "notes").read_text().split("\n")[:-1]


@pytest.mark.parametrize("fails", ["", "a", "f"])
def test_each_test_is_run_once_and_what_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    files = {name: "assert False, 'as told'" if name == fails else "pass" for name in "abcdef"}
    (tmp_path / "together").touch()  # else one of them may be done before the other has begun
    said: list[str] = []
    assert suite.run_all(PYTEST, project(tmp_path, files), VARIABLES, said.append) == int(bool(fails))
    ran = [line for line in notes(tmp_path) if line.startswith("test_")]
    assert sorted(ran) == sorted(f"test_{name}_{i}" for name in files for i in (1, 2))
    assert len(said) == 1 and " passed in " in said[0]


def test_what_fails_says_what_ran_before_it(tmp_path: Path) -> None:
    """Beside its traceback, and its name with the reason at the end."""
    project(tmp_path, {**dict.fromkeys("abcd", "pass"), "e": "assert False, 'as told'"})
    (tmp_path / "taken").mkdir()
    command = [*PYTEST, "-p", suite.PLUGIN, f"--take={tmp_path / 'taken'}", "--from=first"]
    done = subprocess.run(command, cwd=tmp_path, env=VARIABLES, capture_output=True, text=True, check=False)
    told = done.stdout.partition("where it failed")[2]
    assert "file 5 of the process that takes from the first; after " in told and " cores\n" in told
    assert "in this order: python3 serve.py test test_b.py test_c.py test_d.py test_e.py\n" in told
    assert "FAILED test_e.py::test_e_2 - AssertionError: as told" in told


def test_what_cannot_be_collected_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    said: list[str] = []
    assert suite.run_all(PYTEST, project(tmp_path, {"a": "pass", "b": "("}), VARIABLES, said.append) == 2
    assert "test_b.py" in said[0] and not (tmp_path / "notes").exists()


@pytest.mark.parametrize("end", ["first", "last"])
def test_a_file_ends_before_the_next_and_what_is_shared_stays(tmp_path: Path, end: str) -> None:
    """Also where another has taken the file at the other end."""
    project(tmp_path, dict.fromkeys("abc", "pass"))
    take = tmp_path / "taken"
    take.mkdir()
    (take / ("2" if end == "first" else "0")).touch()
    command = [*PYTEST, "-p", suite.PLUGIN, f"--take={take}", f"--from={end}"]
    done = subprocess.run(command, cwd=tmp_path, env=VARIABLES, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    one, two = "ab" if end == "first" else "cb"
    assert notes(tmp_path) == [
        "page opened",
        *(f"test_{one}_{i}" for i in (1, 2)),
        f"end of test_{one}",
        *(f"test_{two}_{i}" for i in (1, 2)),
        f"end of test_{two}",
        "page closed",
    ]


def test_two_at_a_time_take_each_file_once(tmp_path: Path) -> None:
    """However they meet."""
    files = [f"tests/unit/test_{i}.py" for i in range(301)]
    found: dict[bool, list[str]] = {}
    both: Any = [
        threading.Thread(
            target=lambda last=last: found.update({last: [*taking.taken(files, tmp_path, last)]})
        )
        for last in (False, True)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert found[False] + found[True][::-1] == files


def test_long_files_come_first() -> None:
    """Those are there, and nothing is lost or has another neighbour."""
    files = [p.relative_to(ROOT).as_posix() for p in sorted((ROOT / "tests").rglob("test_*.py"))]
    assert len(files) > 100
    ordered = taking.in_order(files)
    assert sorted(ordered) == sorted(files)
    folders = [re.match(r"tests/\w+", file)[0] for file in ordered]  # type: ignore[index]
    assert list(dict.fromkeys(folders))[: len(taking.LONG)] == list(taking.LONG)
    assert len(set(folders)) == sum(a != b for a, b in zip(folders, ["", *folders], strict=False))


def test_one_core_runs_all_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    said: list[str] = []
    assert suite.run_all(PYTEST, project(tmp_path, dict.fromkeys("ab", "pass")), VARIABLES, said.append) == 0
    assert said == [] and notes(tmp_path).count("page opened") == 1
    assert len([line for line in notes(tmp_path) if line.startswith("test_")]) == 4
