"""Unpacks Debian packages into a folder: for a machine that has apt-get but not the package.

apt-get works here with lists and a cache of its own in that folder, so nothing on the system changes
and no root is needed.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .transfer import TransferError


def fetch_and_unpack(packages: list[str], folder: Path) -> None:
    """Download the packages from the Debian mirror this machine is set up for, unpack them into folder."""
    state = folder / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    options = [
        *("-o", f"Dir::State::lists={state}/lists", "-o", f"Dir::Cache={state}/cache"),
        *("-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none"),
    ]
    _apt(["apt-get", *options, "-q", "update"], folder)
    _apt(["apt-get", *options, "-q", "download", *packages], folder)
    for package in folder.glob("*.deb"):
        _apt(["dpkg-deb", "-x", str(package), str(folder)], folder)


def certificates(folder: Path) -> Path:
    """Debian's bundle of certificate authorities as one file, for a machine that has none at all.

    The packages come over apt, which checks signatures of its own, so nothing unverified is trusted.
    """
    fetch_and_unpack(["ca-certificates"], folder)
    single = sorted((folder / "usr/share/ca-certificates").rglob("*.crt"))
    if not single:
        raise TransferError("the package ca-certificates holds no certificate")
    bundle = folder / "ca-certificates.crt"
    bundle.write_bytes(b"\n".join(path.read_bytes() for path in single))
    return bundle


def _apt(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("E:")] or ["failed"]
        raise TransferError(f"{command[0]}: {lines[-1]}")
