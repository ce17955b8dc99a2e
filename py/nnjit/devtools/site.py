"""Says what a URL path is: takes a path, returns Content (a file or bytes, its type, how long to keep it).

Only files below the mounted folders are ever found: no listing, no dot files, no way out through `..`
or a link. A file of the lock is served only if it matches its sha256.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from .lock import Entry, Lock
from .transfer import sha256_of

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".ts": "text/plain; charset=utf-8",
    ".py": "text/plain; charset=utf-8",
    ".wgsl": "text/plain; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    ".wav": "audio/wav",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
    ".whl": "application/zip",
    ".zip": "application/zip",
    ".onnx": "application/octet-stream",
    ".npy": "application/octet-stream",
    ".bytecode": "application/octet-stream",
}
COMPRESSIBLE = {".html", ".js", ".mjs", ".css", ".json", ".map", ".txt", ".md", ".ts", ".py", ".wgsl", ".csv"}
COMPRESSIBLE |= {".svg", ".wasm", ".bytecode"}
WORTH_COMPRESSING = 1024  # bytes
KEEP_COPIES = 7 * 24 * 3600  # seconds a compressed copy is kept; it is cheap to make again
DIST = re.compile(r"dist/[0-9a-f]{12}/[^/]+")


@dataclass(frozen=True)
class Content:
    """What a path holds. `etag` is quoted; `refused` says why it must not be served."""

    type: str
    size: int
    etag: str
    modified: float
    path: Path | None = None
    data: bytes = b""
    immutable: bool = False
    compressible: bool = False
    refused: str | None = None

    def open(self) -> IO[bytes]:
        return self.path.open("rb") if self.path is not None else io.BytesIO(self.data)


class Site:
    """The folder web/ at /, and whatever a test mounts beside it."""

    def __init__(self, web: Path, lock: Lock | None = None) -> None:
        self.mounts: list[tuple[str, Path]] = [("", web)]
        self.pinned: dict[str, Entry] = {f"vendor/{e.path}": e for e in lock.entries} if lock else {}
        self.before: dict[str, Callable[[], object]] = {}
        self.memory: dict[str, Content] = {}
        self.cache = web / "dist" / ".gzip"
        self._checked: dict[Path, tuple[int, int, str]] = {}
        self._gzip_lock = threading.Lock()

    def mount(self, prefix: str, folder: Path) -> str:
        """Serve `folder` at /prefix/; returns that path. Later mounts win."""
        name = prefix.strip("/")
        self.mounts.insert(0, (name + "/", folder))
        return f"/{name}/"

    def put(self, path: str, data: bytes, type: str | None = None) -> str:
        """Serve bytes at a path."""
        name = path.strip("/")
        kind = type or TYPES.get(Path(name).suffix, "application/octet-stream")
        etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        self.memory[name] = Content(kind, len(data), etag, time.time(), data=data)
        return f"/{name}"

    def find(self, url_path: str) -> Content | None:
        """The content at a request's path (still percent-encoded), or None."""
        name = plain_path(url_path)
        if name is None:
            return None
        if name in self.before:
            self.before[name]()
        if name in self.memory:
            return self.memory[name]
        for prefix, folder in self.mounts:
            if name.startswith(prefix):
                return self._file(name, folder, name[len(prefix) :])
        return None

    def _file(self, name: str, folder: Path, relative: str) -> Content | None:
        root = folder.resolve()
        path = (root / relative).resolve()
        if not path.is_relative_to(root) or not path.is_file():
            return None
        stat = path.stat()
        etag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
        entry, refused = self.pinned.get(name), None
        if entry is not None:
            if self._digest(path, stat) == entry.sha256:
                etag = f'"{entry.sha256}"'
            else:
                refused = f"refused: {name} does not match its sha256 in vendor.lock.json; run serve.py again"
        suffix = path.suffix.lower()
        return Content(
            type=TYPES.get(suffix, "application/octet-stream"),
            size=stat.st_size,
            etag=etag,
            modified=stat.st_mtime,
            path=path,
            immutable=entry is not None or DIST.fullmatch(name) is not None,
            compressible=suffix in COMPRESSIBLE and stat.st_size >= WORTH_COMPRESSING,
            refused=refused,
        )

    def _digest(self, path: Path, stat: os.stat_result) -> str:
        known = self._checked.get(path)
        if known is None or known[:2] != (stat.st_mtime_ns, stat.st_size):
            known = (stat.st_mtime_ns, stat.st_size, sha256_of(path))
            self._checked[path] = known
        return known[2]

    def gzipped(self, content: Content) -> Path:
        """A compressed copy of a file, made once for each state of it."""
        assert content.path is not None
        key = hashlib.sha256(f"{content.path} {content.etag}".encode()).hexdigest()[:24]
        packed = self.cache / f"{key}.gz"
        if packed.is_file():
            return packed
        with self._gzip_lock:
            if not packed.is_file():
                self.cache.mkdir(parents=True, exist_ok=True)
                temporary = packed.with_suffix(f".{os.getpid()}")
                with content.path.open("rb") as source, gzip.open(temporary, "wb", 6) as packer:
                    shutil.copyfileobj(source, packer, 1 << 18)
                temporary.replace(packed)
                self._forget_old_copies()
        return packed

    def _forget_old_copies(self) -> None:
        for copy in self.cache.iterdir():
            if time.time() - copy.stat().st_mtime > KEEP_COPIES:
                copy.unlink(missing_ok=True)


def plain_path(url_path: str) -> str | None:
    """The file name a URL path stands for, `index.html` for a folder's; None for one that is no such name."""
    try:
        name = unquote(url_path, errors="strict")
    except UnicodeDecodeError:
        return None
    if not name.startswith("/") or "\\" in name or "\0" in name:
        return None
    name = name[1:] + ("index.html" if name.endswith("/") else "")
    if any(part in {"", "..", "."} or part.startswith(".") for part in name.split("/")):
        return None
    if name.endswith((".part", ".absent")):
        return None
    return name
