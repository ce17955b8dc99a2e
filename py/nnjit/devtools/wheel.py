"""Builds the browser's wheel of py/nnjit and the manifest the page reads; returns the manifest.

The wheel is a zip of pure Python, written by hand because that takes milliseconds and needs nothing
installed. It lies in a folder named by its content, so the browser may keep it for ever.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .bytecode import HOME, PARTS, SITE, STDLIB, Source, compiler, facts, make
from .lock import Lock, SetupError

EPOCH = (2020, 1, 1, 0, 0, 0)  # one date for all members: the same sources give the same bytes
LEFT_OUT = {"devtools", "__pycache__"}
OLD = 24 * 3600  # seconds after which another build's wheel is removed
LOAD_ORDER = ("numpy", "protobuf", "typing_extensions", "ml_dtypes", "onnx")
ON_DEMAND = ("pillow",)  # loaded when a model has an operator that needs it (ImageDecoder)


def project_version(pyproject: Path) -> str:
    """The version in pyproject.toml (Python 3.10 has no TOML reader, and this is the one line needed)."""
    found = re.search(r'^version = "([^"]+)"$', pyproject.read_text("utf-8"), re.MULTILINE)
    if not found:
        raise SetupError(f"{pyproject} has no version line")
    return found.group(1)


def wheel_bytes(package: Path, version: str) -> bytes:
    """A wheel of the package folder, less what the browser has no use for."""
    info = f"{package.name}-{version}.dist-info"
    files: list[tuple[str, bytes]] = []
    for path in sorted(package.rglob("*")):
        relative = path.relative_to(package)
        if (
            path.is_file()
            and path.suffix in {".py", ".json", ".typed"}
            and not LEFT_OUT & set(relative.parts)
        ):
            files.append((f"{package.name}/{relative.as_posix()}", path.read_bytes()))
    metadata = f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {version}\n"
    tags = "Wheel-Version: 1.0\nGenerator: nnjit serve.py\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files += [(f"{info}/METADATA", metadata.encode()), (f"{info}/WHEEL", tags.encode())]
    record = [f"{name},sha256={_record_hash(data)},{len(data)}" for name, data in files]
    record.append(f"{info}/RECORD,,")
    files.append((f"{info}/RECORD", ("\n".join(record) + "\n").encode()))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in files:
            member = zipfile.ZipInfo(name, EPOCH)
            member.external_attr = 0o644 << 16
            archive.writestr(member, data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


class Distribution:
    """web/dist/: the wheel and manifest.json; refresh() rebuilds them when a source file changed."""

    def __init__(self, root: Path, lock: Lock) -> None:
        self.root = root
        self.lock = lock
        self.folder = root / "web" / "dist"
        self.package = root / "py" / "nnjit"
        self.state: object = None
        self.lock_refresh = threading.Lock()

    def refresh(self) -> dict[str, Any]:
        """Bring web/dist/ up to date; the manifest as written. Safe from several threads."""
        with self.lock_refresh:
            return self._refresh()

    def _refresh(self) -> dict[str, Any]:
        wheel_state = [
            (str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(self.package.rglob("*.py"))
        ]
        present = {e.path: (self.root / "web/vendor" / e.path).is_file() for e in self.lock.entries}
        manifest_path = self.folder / "manifest.json"
        if self.state == (wheel_state, present) and manifest_path.is_file():
            loaded: dict[str, Any] = json.loads(manifest_path.read_text("utf-8"))
            return loaded
        manifest = self._manifest(self._write_wheel(), present)
        self._add_bytecode(manifest)
        self._remove_old((self.root / "web" / manifest["nnjit"]["url"]).parent)
        write_atomically(manifest_path, (json.dumps(manifest, indent=1) + "\n").encode())
        self.state = (wheel_state, present)
        return manifest

    def precompile(
        self, tell: Callable[[str], None] = lambda _: None, node: Path | None = None
    ) -> dict[str, Any]:
        """Like refresh(), with bytecode of all of it where this machine can make that (bytecode.py): some seconds.
        node: a Node.js of one's own, for a machine that has neither that nor the page's version of Python."""
        manifest = self.refresh()
        pyodide = self.root / "web" / manifest["pyodide"]["indexURL"]
        make([source for source, _ in self._sources(manifest)], self.folder, compiler(pyodide, node), tell)
        self.state = None
        return self.refresh()

    def _sources(self, manifest: dict[str, Any]) -> list[tuple[Source, dict[str, Any]]]:
        """Zips of modules, each with its record in the manifest."""
        web = self.root / "web"
        stdlib = self.lock.entry(f"pyodide-{self.lock.pyodide}/python_stdlib.zip")
        found = [
            (Source(web / "vendor" / stdlib.path, stdlib.sha256, STDLIB, zip=True), manifest["pyodide"]),
            (Source(web / manifest["nnjit"]["url"], manifest["nnjit"]["sha256"], HOME), manifest["nnjit"]),
        ]
        found += [(Source(web / p["url"], p["sha256"], SITE), p) for p in manifest["packages"]]
        return [(source, record) for source, record in found if source.path.is_file()]

    def _add_bytecode(self, manifest: dict[str, Any]) -> None:
        for source, record in self._sources(manifest):
            known = facts(source, self.folder)
            if known is not None:
                record["stdlib" if source.zip else "bytecode"] = known

    def _write_wheel(self) -> dict[str, Any]:
        version = project_version(self.root / "pyproject.toml")
        data = wheel_bytes(self.package, version)
        digest = hashlib.sha256(data).hexdigest()
        name = f"nnjit-{version}-py3-none-any.whl"
        folder = self.folder / digest[:12]
        if not (folder / name).is_file():
            write_atomically(folder / name, data)
        os.utime(folder)
        return {"url": f"dist/{digest[:12]}/{name}", "sha256": digest, "size": len(data)}

    def _remove_old(self, keep: Path) -> None:
        for other in self.folder.iterdir():
            is_build = re.fullmatch(rf"[0-9a-f]{{12}}|{re.escape(PARTS)}.*", other.name) is not None
            if is_build and other != keep and time.time() - other.stat().st_mtime > OLD:
                shutil.rmtree(other, ignore_errors=True)

    def _manifest(self, wheel: dict[str, Any], present: dict[str, bool]) -> dict[str, Any]:
        packages, missing, files = [], [], {}
        by_package = {e.package: e for e in self.lock.entries if e.package}
        for name in LOAD_ORDER:
            entry = by_package[name]
            if present[entry.path]:
                facts = {"url": f"vendor/{entry.path}", "sha256": entry.sha256}
                packages.append({"name": name, **facts, "size": entry.size})
            else:
                missing.append({"name": name, "reason": entry.optional or "not fetched"})
        on_demand = {}
        for name in ON_DEMAND:
            late = by_package.get(name)
            if late and present[late.path]:
                on_demand[name] = {"url": f"vendor/{late.path}", "sha256": late.sha256, "size": late.size}
        for entry in self.lock.entries:
            files[entry.path] = {
                "url": f"vendor/{entry.path}",
                "sha256": entry.sha256,
                "size": entry.size,
                "group": entry.group,
                "present": present[entry.path],
            }
        base = f"vendor/pyodide-{self.lock.pyodide}/"
        return {
            "version": 1,
            "nnjit": wheel,
            "pyodide": {"version": self.lock.pyodide, "indexURL": base, "module": base + "pyodide.mjs"},
            "packages": packages,
            "onDemand": on_demand,
            "missing": missing,
            "files": files,
        }


def write_atomically(path: Path, data: bytes) -> None:
    """Write so that a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
