"""Bytecode for a first visit: the page's Python need not compile its modules, which is half of what it takes to start.

Bytecode belongs to a version of Python. Where one of the page's version is at hand (this one, a python3.14, or Node,
which runs the page's own), `make` compiles the standard library and the wheels, once for each file and a day at
least; `facts` says what is there. Where there is none, pages compile what they import, as before.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
VERSION = "python3.14"
MAGIC = bytes.fromhex("2b0e0d0a")
"""Of Python 3.14's bytecode (importlib.util.MAGIC_NUMBER), of which the page's Pyodide is."""
FORMAT = 1
"""Raised when what is made of a file changes."""
SITE = "/lib/python3.14/site-packages"
HOME = "/home/pyodide"
"""Where the page has wheels, and nnjit's (web/compiler.worker.js)."""
STDLIB = "/lib/python314.zip"
SELDOM = ("onnx/backend/", "onnx/test/", "onnx/tools/", "numpy/distutils/", "numpy/f2py/", "numpy/testing/")
SELDOM_STDLIB = (
    "encodings/", "ctypes/", "curses/", "dbm/", "http/", "multiprocessing/", "pydoc", "sqlite3/", "tkinter/", "turtle",
    "unittest/", "wsgiref/", "xml/", "xmlrpc/", "_pyrepl/", "idlelib/", "lib2to3/", "test/", "venv/", "zoneinfo/",
)  # fmt: skip
OFTEN = ("encodings/__init__.py", "encodings/aliases.py", "encodings/utf_8.py", "encodings/cp437.py")
"""Left to the page, but for these: no start imports them, and they would be a third of what is fetched."""
LIMIT_S = 300
PARTS = ".bytecode-"
"""Begins the names of folders with what is being made; one whose process was killed stays until wheel.py removes it."""


@dataclass(frozen=True)
class Source:
    """A zip of modules, and where its bytecode is kept. `zip`: it is rewritten with its bytecode in it."""

    path: Path
    sha256: str
    root: str
    zip: bool = False

    @property
    def name(self) -> str:
        return f"{self.path.stem}.{FORMAT}.{'zip' if self.zip else 'bytecode'}"

    def target(self, dist: Path) -> Path:
        """In a folder named by what it was made from: the browser may keep it for ever."""
        return dist / self.sha256[:12] / self.name

    def job(self, target: Path) -> dict[str, Any]:
        with zipfile.ZipFile(self.path) as archive:
            modules = [name for name in archive.namelist() if name.endswith(".py")]
        if self.zip:
            members = [n for n in modules if n in OFTEN or not n.startswith(SELDOM_STDLIB)]
        else:
            members = [n for n in modules if "/tests/" not in n and not n.startswith(SELDOM)]
        return {
            "source": str(self.path),
            "target": str(target),
            "root": self.root,
            "members": members,
            "zip": self.zip,
        }


def facts(source: Source, dist: Path) -> dict[str, Any] | None:
    """What the manifest says of it; None where it has not been made."""
    target = source.target(dist)
    try:
        size = target.stat().st_size
        os.utime(target.parent)  # it is in use: other builds leave it
    except OSError:
        return None
    return {"url": target.relative_to(dist.parent).as_posix(), "size": size}


def compiler(pyodide: Path, own_node: Path | None = None) -> list[str] | None:
    """The command that compiles, to which the jobs' file is added; None where there is none."""
    script = str(HERE / "precompile.py")
    if MAGIC_NUMBER == MAGIC:
        return [sys.executable, script]
    python, node = shutil.which(VERSION), shutil.which("node") or (own_node and str(own_node))
    if python:
        return [python, script]
    return [node, str(HERE / "precompile.mjs"), f"{pyodide.resolve()}/"] if node else None


def make(
    sources: list[Source], dist: Path, command: list[str] | None, tell: Callable[[str], None] = lambda _: None
) -> bool:
    """Compiles those that are not there yet; whether all are there then. Pages do without what fails."""
    missing = [source for source in sources if not source.target(dist).is_file()]
    if not missing:
        return True
    if command is None:
        return False
    tell(f"compiling {', '.join(s.path.name for s in missing)} for the page with {Path(command[0]).name}")
    try:
        failed = _make(missing, dist, command)
    except (OSError, subprocess.SubprocessError) as error:
        failed = str(error)
    if failed:
        tell(f"  that failed, so pages compile themselves: {failed}")
    return not failed


def _make(missing: list[Source], dist: Path, command: list[str]) -> str:
    """What failed, or ''."""
    dist.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=dist, prefix=PARTS) as folder:
        made = {source: Path(folder).resolve() / f"{i}" for i, source in enumerate(missing)}
        jobs = Path(folder) / "jobs.json"
        jobs.write_text(json.dumps([source.job(path) for source, path in made.items()]), "utf-8")
        done = subprocess.run(
            [*command, str(jobs)], capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        failed = done.stderr.strip()[-300:] or f"exit status {done.returncode}" if done.returncode else ""
        for source, path in made.items():
            if not failed and path.is_file() and _right(source, path):
                target = source.target(dist)
                target.parent.mkdir(exist_ok=True)
                path.chmod(0o644)
                path.replace(target)
            else:
                failed = failed or f"nothing of use was made of {source.path.name}"
    return failed


def _right(source: Source, made: Path) -> bool:
    """Whether it is bytecode of the page's version."""
    if not source.zip:
        with made.open("rb") as file:
            return MAGIC in file.read(64)
    with zipfile.ZipFile(made) as archive:
        return any(archive.read(n)[:4] == MAGIC for n in archive.namelist() if n.endswith(".pyc"))
