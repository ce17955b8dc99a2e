"""Moves bytes: a URL into a file (resuming what an earlier try left), and one member out of a remote wheel.

Nothing here decides what is right: the caller checks the sha256.
"""

from __future__ import annotations

import hashlib
import io
import ssl
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

CHUNK = 1 << 18
TIMEOUT = 20.0  # seconds without a byte before a connection counts as dead
PROGRESS = 5.0  # seconds between two lines about a long download
RETRIES = 4
BLOCK = 1 << 20  # ranged reads of a remote archive come in blocks of this size

Say = Callable[[str], None]
NETWORK_ERRORS = (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError, ssl.SSLError)


class TransferError(Exception):
    """A download that did not work; the message is for the person at the terminal."""


def telling(stderr: str) -> str:
    """The line of a package manager's complaint that helps most: the first cause, not the last echo."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    for word in ("CERTIFICATE_VERIFY_FAILED", "Could not fetch URL", "ERROR", "error", ""):
        found = [line for line in lines if word in line]
        if found:
            return found[-1]
    return "it said nothing"


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while chunk := f.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def download(url: str, part: Path, size: int | None, say: Say) -> None:
    """Fetch url into `part`. Bytes already there are kept and the rest is asked for with Range.

    A server that ignores Range, or a part longer than the file, makes it start over; either is said.
    A connection that breaks is taken up again where it broke, up to RETRIES times.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    if size is not None and part.exists() and part.stat().st_size > size:
        say(f"starts over: {part.name} is longer than the {size} bytes expected")
        part.unlink()
    for attempt in range(RETRIES):
        have = part.stat().st_size if part.exists() else 0
        if size is not None and have == size:
            return
        if have:
            say(f"resumes at byte {have:,}" + (f" of {size:,}" if size else ""))
        try:
            _append(url, part, have, size, say)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416:
                say("starts over: the server has no bytes beyond those already here")
                part.unlink(missing_ok=True)
                continue
            raise TransferError(f"HTTP {error.code} {error.reason}") from error
        except NETWORK_ERRORS as error:
            now = part.stat().st_size if part.exists() else 0
            if attempt == RETRIES - 1 or (now == have and have == 0):
                raise TransferError(_reason(error)) from error
            say(f"connection broke after {now:,} bytes ({_reason(error)})")
            time.sleep(0.2 * 2**attempt)
    raise TransferError(f"gave up after {RETRIES} tries")


def _append(url: str, part: Path, have: int, size: int | None, say: Say) -> None:
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with _open(url, headers) as response:
        # file: URLs have no status; they are read whole
        if have and getattr(response, "status", 200) != 206:
            say("starts over: the server does not resume")
            have = 0
        total = _total(response, have)
        if size is not None and total is not None and total != size:
            raise TransferError(f"the server offers {total:,} bytes, the lock file says {size:,}")
        told = time.monotonic()
        with part.open("ab" if have else "wb") as out:
            while chunk := response.read(CHUNK):
                out.write(chunk)
                if time.monotonic() - told > PROGRESS:
                    told = time.monotonic()
                    say(f"{out.tell() / 1e6:.1f} MB" + (f" of {total / 1e6:.1f} MB" if total else ""))
            got = out.tell()
    expected = total if total is not None else size
    if expected is not None and got < expected:
        raise ConnectionError(f"only {got:,} of {expected:,} bytes came")


def _total(response: Any, have: int) -> int | None:
    length = response.headers.get("Content-Length")
    return have + int(length) if length is not None else None


def _open(url: str, headers: dict[str, str]) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "nnjit-setup", **headers})
    return urllib.request.urlopen(request, timeout=TIMEOUT)


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"{reason.verify_message}; is the package ca-certificates installed?"
    return str(reason) or type(reason).__name__


class RangeFile(io.RawIOBase):
    """A remote file one can seek in: each read is one ranged request.

    Raises TransferError when the server does not do ranges.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.position = 0
        self.requests = 0
        try:
            with _open(url, {"Range": "bytes=0-0"}) as response:
                content_range = response.headers.get("Content-Range") or ""
                if response.status != 206 or "/" not in content_range:
                    raise TransferError("the server does not serve ranges")
                self.length = int(content_range.rsplit("/", 1)[1])
        except NETWORK_ERRORS as error:
            raise TransferError(_reason(error)) from error

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.length}[whence]
        self.position = base + offset
        return self.position

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self.length - self.position)
        if count <= 0:
            return 0
        data = self._range(self.position, count)
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)

    def _range(self, start: int, count: int) -> bytes:
        self.requests += 1
        for attempt in range(RETRIES):
            try:
                with _open(self.url, {"Range": f"bytes={start}-{start + count - 1}"}) as response:
                    if response.status != 206:
                        raise TransferError("the server stopped serving ranges")
                    data: bytes = response.read(count)
                if data:
                    return data
            except NETWORK_ERRORS as error:
                if attempt == RETRIES - 1:
                    raise TransferError(_reason(error)) from error
                time.sleep(0.2 * 2**attempt)
        raise TransferError("the server sent nothing")


def remote_member(url: str, member: str, part: Path) -> None:
    """Copy one member of a wheel at `url` into `part`, reading only the directory and that member."""
    raw: IO[bytes]
    if url.startswith("file:"):
        raw = open(urllib.request.url2pathname(urlsplit(url).path), "rb")  # noqa: SIM115 - closed below
    else:
        raw = io.BufferedReader(RangeFile(url), BLOCK)
    part.parent.mkdir(parents=True, exist_ok=True)
    with raw, zipfile.ZipFile(raw) as archive:
        try:
            info = archive.getinfo(member)
        except KeyError:
            raise TransferError(f"the archive has no member {member}") from None
        with archive.open(info) as source, part.open("wb") as out:
            while chunk := source.read(CHUNK):
                out.write(chunk)
