"""Bytecode for the page, made by Python of the page's version; what another version makes, or none, is not taken."""

from __future__ import annotations

import hashlib
import marshal
import sys
import zipfile
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from nnjit.devtools import bytecode
from nnjit.devtools.bytecode import HERE, MAGIC, Source, compiler, facts, make
from nnjit.devtools.cli import ROOT, Project

MEMBERS = {
    "a/__init__.py": "answer = 42\n",
    "a/b.py": "def f(): return 'b'\n",
    "a/broken.py": "def (:\n",
    "a/tests/test_a.py": "",
    "a/data.txt": "text",
}


@pytest.fixture
def source(tmp_path: Path) -> Source:
    path = tmp_path / "small.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in MEMBERS.items():
            archive.writestr(name, text)
    return Source(path, hashlib.sha256(path.read_bytes()).hexdigest(), "/place")


def test_what_another_python_makes_is_not_taken(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    another = bytes([MAGIC_NUMBER[0] ^ 1, *MAGIC_NUMBER[1:]])
    monkeypatch.setattr(bytecode, "MAGIC", another)
    dist = tmp_path / "dist"
    command = [sys.executable, str(HERE / "precompile.py")]
    assert not make([source], dist, command, told.append)
    assert "small.whl" in told[-1] and facts(source, dist) is None
    monkeypatch.setattr(bytecode, "MAGIC", MAGIC_NUMBER)
    assert make([source], dist, command, told.append)
    assert facts(source, dist) is not None and make([source], dist, None)  # it is there


@pytest.mark.parametrize("command", [["false"], ["/nowhere/python3.14"]])
def test_a_failure_is_told_and_leaves_nothing(command: list[str], source: Source, tmp_path: Path) -> None:
    told: list[str] = []
    dist = tmp_path / "dist"
    assert not make([source], dist, command, told.append)
    assert "that failed" in told[-1] and facts(source, dist) is None
    assert not list(dist.rglob("*")) and not make([source], dist, None)


def test_a_folder_that_takes_nothing_is_no_error(source: Source, tmp_path: Path) -> None:
    """Of a disk that is full, or one that may only be read: the page is served nevertheless."""
    (tmp_path / "dist").write_text("a file")
    told: list[str] = []
    assert not make([source], tmp_path / "dist", [sys.executable, "-c", ""], told.append)
    assert "that failed" in told[-1]


def test_a_machine_without_either_takes_the_node_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bytecode, "MAGIC", b"")  # this Python is of another version
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert compiler(Path("/x")) is None
    own = Path("/x/.venv/node")
    assert (compiler(Path("/x"), own) or [])[0] == str(own)


def test_each_module_has_the_code_of_its_place(source: Source, tmp_path: Path) -> None:
    command = compiler(ROOT / "web" / Project().dist.refresh()["pyodide"]["indexURL"])
    if command is None:
        pytest.skip("neither Python 3.14 nor Node is here")
    library = Source(source.path, "0" * 64, "/lib.zip", zip=True)
    dist = tmp_path / "web" / "dist"
    assert make([source, library], dist, command)
    known = facts(source, dist)
    assert known is not None
    made = tmp_path / "web" / known["url"]
    assert made.stat().st_size == known["size"] and made.parent.name == source.sha256[:12]
    data = made.read_bytes()
    assert MAGIC in data[:64]
    if MAGIC_NUMBER == MAGIC:
        found = marshal.loads(data)
        assert set(found) == {"", "/place/a/__init__.py", "/place/a/b.py"}
        assert marshal.loads(found["/place/a/b.py"]).co_filename == "/place/a/b.py"
    for path in ("/place/a/__init__.py", "/place/a/b.py"):
        assert path.encode() in data
    assert b"test_a.py" not in data and b"broken.py" not in data

    with zipfile.ZipFile(library.target(dist)) as archive:
        names = archive.namelist()
        assert {n: archive.read(n).decode() for n in MEMBERS} == MEMBERS  # sources stay, for tracebacks
        assert set(names) - set(MEMBERS) == {"a/__init__.pyc", "a/b.pyc", "a/tests/test_a.pyc"}
        head = archive.read("a/b.pyc")[:8]
    assert head == MAGIC + bytes([1, 0, 0, 0])  # nobody compares it with its source
