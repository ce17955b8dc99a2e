"""Fills web/vendor/ from the lock file; returns what is there and what may be missing, and why.

A file is right only when its sha256 is. What is right is never fetched again, so a second start
needs no network; what is wrong is refused by name and fetched anew from the next source.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .lock import Entry, Lock, SetupError, Source
from .sources import SAID_BEFORE, Clients, Fetcher
from .transfer import Say, TransferError, sha256_of

ASK_AGAIN = 7 * 24 * 3600  # seconds before an optional file that no source had is asked for again


def print_line(text: str) -> None:
    print(text, flush=True)


@dataclass
class Vendored:
    """What ensure() found: paths that are present and right, and for the others the reason."""

    present: dict[str, Path] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)


class Vendor:
    """The folder web/vendor/ as its lock file says it should be."""

    def __init__(self, lock: Lock, folder: Path, clients: Clients, quiet: bool = False) -> None:
        self.lock = lock
        self.folder = folder
        self.clients = clients
        self.say: Say = (lambda text: None) if quiet else print_line

    def ensure(self, *groups: str, required: bool = True, ask_again: bool = False) -> Vendored:
        """Have every file of the groups in place.

        A file no source gives raises SetupError, unless its entry is optional or required is False: then
        it stands in `missing` with the reason. ask_again tries the optional ones that nobody had before.
        """
        result = Vendored()
        entries = self.lock.group(*groups)
        wrong = [e for e in entries if not self._in_place(e, result)]
        wrong = [e for e in wrong if ask_again or not self._known_missing(e, result)]
        if not wrong:
            return result
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clients.certify()
        with one_at_a_time(self.folder / ".lock", self.say), Fetcher(self.clients, self._indented) as fetcher:
            for entry in wrong:
                # another serve.py may have fetched it while this one waited
                if self._in_place(entry, result, quiet=True):
                    continue
                self._fetch(entry, fetcher, result, required)
        return result

    def path(self, name: str) -> Path:
        return self.folder / name

    def _indented(self, text: str) -> None:
        self.say("    " + text)

    def _in_place(self, entry: Entry, result: Vendored, quiet: bool = False) -> bool:
        path = self.folder / entry.path
        if not path.is_file():
            return False
        if sha256_of(path) == entry.sha256:
            result.present[entry.path] = path
            return True
        if not quiet:
            self.say(f"refused: {path} does not match its sha256 in vendor.lock.json; it is fetched anew")
        return False

    def _absent(self, entry: Entry) -> Path:
        return self.folder / (entry.path + ".absent")

    def _known_missing(self, entry: Entry, result: Vendored) -> bool:
        """An optional file nobody had is not asked for at every start: that would need the network."""
        note = self._absent(entry)
        if entry.optional is None or not note.is_file() or note.read_text() != entry.sha256:
            return False
        if time.time() - note.stat().st_mtime > ASK_AGAIN:
            return False
        result.missing[entry.path] = entry.optional
        return True

    def _fetch(self, entry: Entry, fetcher: Fetcher, result: Vendored, required: bool) -> None:
        path = self.folder / entry.path
        part = path.with_name(path.name + ".part")
        size = entry.size or 0
        told = f" ({size / 1e6:.1f} MB)" if size >= 1e5 else f" ({size / 1e3:.1f} kB)" if size else ""
        self.say(f"fetch {entry.path}{told}")
        failures = []
        for source in entry.sources:
            if source.kind == "npm" or source.member:
                drop_part(part, self._indented)
            problem = self._try(source, entry, part, fetcher)
            if problem is None:
                part.replace(path)
                result.present[entry.path] = path
                result.fetched.append(entry.path)
                return
            failures.append(f"{source}: {problem}")
            if SAID_BEFORE not in problem:
                self._indented(f"{source}: {problem}")
        if entry.optional is not None or not required:
            result.missing[entry.path] = entry.optional or "; ".join(failures)
            if entry.optional is not None:
                self._absent(entry).parent.mkdir(parents=True, exist_ok=True)
                self._absent(entry).write_text(entry.sha256)
            self._indented(f"goes on without it: {entry.optional or 'not needed to start'}")
            return
        raise SetupError(
            f"no source gave {entry.path}:\n  "
            + "\n  ".join(failures)
            + f"\nCheck the network and run it again; or put the file at {path} by hand "
            + f"(sha256 {entry.sha256})."
        )

    def _try(self, source: Source, entry: Entry, part: Path, fetcher: Fetcher) -> str | None:
        """None when `part` now holds the right bytes, else the reason it does not."""
        resumed = part.exists() and part.stat().st_size > 0
        for again in (resumed, False):
            try:
                fetcher.fetch(source, part, entry.size)
            except (TransferError, SetupError) as error:
                return str(error)
            actual = sha256_of(part)
            if actual == entry.sha256:
                return None
            part.unlink()
            if again:
                self._indented("starts over: the resumed file does not match its sha256")
                continue
            return f"refused: {entry.path} has sha256 {actual}, not {entry.sha256} as vendor.lock.json says"
        return None


def drop_part(part: Path, say: Say) -> None:
    """A member of an archive cannot be resumed: what an earlier try left is thrown away, and that is said."""
    if part.exists():
        say(f"starts over: {part.name} is half of an earlier try")
        part.unlink()


@contextlib.contextmanager
def one_at_a_time(path: Path, say: Say) -> Iterator[None]:
    """Hold a file lock, so that two serve.py at once do not write the same part file."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another serve.py is fetching; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
