"""The browser wheel and the manifest: complete, installable, reproducible, rebuilt when a source changes."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nnjit.devtools.bytecode import PARTS
from nnjit.devtools.cli import ROOT
from nnjit.devtools.lock import read_lock
from nnjit.devtools.wheel import Distribution, project_version, wheel_bytes


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout with a small package, the real lock and no vendored file."""
    package = tmp_path / "py" / "nnjit"
    (package / "devtools").mkdir(parents=True)
    (package / "__init__.py").write_text("answer = 42\n")
    (package / "devtools" / "__init__.py").write_text("")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.py").write_text("")
    (tmp_path / "web").mkdir()
    shutil.copy(ROOT / "web" / "vendor.lock.json", tmp_path / "web")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_wheel_holds_the_package_without_devtools() -> None:
    names = zipfile.ZipFile(io.BytesIO(wheel_bytes(ROOT / "py" / "nnjit", "0.1.0"))).namelist()
    sources = {
        f"nnjit/{p.relative_to(ROOT / 'py' / 'nnjit').as_posix()}"
        for p in (ROOT / "py" / "nnjit").rglob("*.py")
        if "devtools" not in p.parts
    }
    assert {n for n in names if n.endswith(".py")} == sources


def test_the_record_lists_every_file_with_its_hash(copy: Path) -> None:
    archive = zipfile.ZipFile(io.BytesIO(wheel_bytes(copy / "py" / "nnjit", "1.2")))
    rows = {r[0]: r[1:] for r in csv.reader(archive.read("nnjit-1.2.dist-info/RECORD").decode().splitlines())}
    assert set(rows) == set(archive.namelist())
    for name, (digest, size) in rows.items():
        if name.endswith("RECORD"):
            continue
        data = archive.read(name)
        encoded = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        assert (digest, int(size)) == (f"sha256={encoded}", len(data))


def test_the_same_sources_give_the_same_bytes(copy: Path) -> None:
    package = copy / "py" / "nnjit"
    first = wheel_bytes(package, "1.0")
    os.utime(package / "__init__.py", (1, 1))
    assert wheel_bytes(package, "1.0") == first


def test_a_plain_python_imports_it(copy: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "w.zip"
    wheel.write_bytes(wheel_bytes(copy / "py" / "nnjit", "1.0"))
    code = f"import sys; sys.path.insert(0, {str(wheel)!r}); import nnjit; print(nnjit.answer)"
    assert (
        subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True).stdout == b"42\n"
    )


def test_the_manifest_says_what_is_there_and_what_is_not(copy: Path) -> None:
    lock = read_lock(copy / "web" / "vendor.lock.json")
    for entry in lock.group("runtime"):
        if entry.package not in {"ml_dtypes"}:
            path = copy / "web" / "vendor" / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    manifest = Distribution(copy, lock).refresh()
    assert manifest == json.loads((copy / "web" / "dist" / "manifest.json").read_text())
    assert [p["name"] for p in manifest["packages"]] == ["numpy", "protobuf", "typing_extensions", "onnx"]
    assert [m["name"] for m in manifest["missing"]] == ["ml_dtypes"] and manifest["missing"][0]["reason"]
    assert manifest["pyodide"]["module"] == f"vendor/pyodide-{lock.pyodide}/pyodide.mjs"
    wheel = copy / "web" / manifest["nnjit"]["url"]
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == manifest["nnjit"]["sha256"]
    assert wheel.parent.name == manifest["nnjit"]["sha256"][:12]
    models = [f for f in manifest["files"].values() if f["group"] == "samples"]
    assert models and not any(f["present"] for f in models)


def test_a_changed_source_gives_a_new_wheel_and_old_ones_go(copy: Path) -> None:
    dist = Distribution(copy, read_lock(copy / "web" / "vendor.lock.json"))
    first = dist.refresh()["nnjit"]["url"]
    assert dist.refresh()["nnjit"]["url"] == first
    (copy / "py" / "nnjit" / "__init__.py").write_text("answer = 43\n")
    second = dist.refresh()["nnjit"]["url"]
    assert second != first and (copy / "web" / first).exists()
    os.utime((copy / "web" / first).parent, (0, 0))
    (copy / "py" / "nnjit" / "__init__.py").write_text("answer = 44 \n")
    dist.refresh()
    assert not (copy / "web" / first).exists() and (copy / "web" / second).exists()


def test_a_vendored_file_that_appears_shows_up(copy: Path) -> None:
    lock = read_lock(copy / "web" / "vendor.lock.json")
    dist = Distribution(copy, lock)
    path = next(e.path for e in lock.entries if e.package == "ml_dtypes")
    assert "ml_dtypes" in [m["name"] for m in dist.refresh()["missing"]]
    (copy / "web" / "vendor" / path).parent.mkdir(parents=True)
    (copy / "web" / "vendor" / path).write_bytes(b"")
    assert "ml_dtypes" in [p["name"] for p in dist.refresh()["packages"]]


def test_the_version_is_the_one_of_pyproject(copy: Path) -> None:
    assert project_version(copy / "pyproject.toml") == "0.1.0"


def test_what_a_killed_compiler_left_is_removed_once_it_is_old(copy: Path) -> None:
    left = [copy / "web" / "dist" / f"{PARTS}{age}" for age in ("old", "new")]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "0").write_bytes(b"half")
    os.utime(left[0], (0, 0))
    Distribution(copy, read_lock(copy / "web" / "vendor.lock.json")).refresh()
    assert [folder.exists() for folder in left] == [False, True]  # another process may be at the new one
