"""The static checks: ruff, its formatter, mypy, and tsc over the JavaScript; returns which failed."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

from .env import Environment
from .lock import Entry
from .transfer import Say

CHECKS = ("ruff", "format", "mypy", "mypy-3.10", "tsc", "tsc-tests")


def run_checks(root: Path, env: Environment, typescript: Path, say: Say, only: list[str]) -> list[str]:
    """Run the named checks, all if none is named; those that failed. `typescript` is the unpacked package."""
    python = str(env.python)
    tsc = [str(env.node()), str(typescript / "lib" / "tsc.js")]
    mypy = [python, "-m", "mypy", "--no-error-summary"]
    commands = {
        "ruff": [python, "-m", "ruff", "check", "."],
        "format": [python, "-m", "ruff", "format", "--check", "."],
        "mypy": mypy,
        # The oldest Python it runs on: syntax and names of the library that came later. NumPy's own types are for
        # newer ones and give Any there.
        "mypy-3.10": [*mypy, "--python-version", "3.10", "--disable-error-code", "no-any-return"],
        "tsc": [*tsc, "--project", "web"],
        "tsc-tests": [*tsc, "--project", "tests"],
    }
    failed = []
    for name in only or CHECKS:
        done = subprocess.run(commands[name], cwd=root, check=False)
        say(f"{name}: {'ok' if done.returncode == 0 else 'FAILED'}")
        if done.returncode:
            failed.append(name)
    return failed


def unpack_typescript(entry: Entry, vendor: Path, into: Path) -> Path:
    """The TypeScript package of the vendored tarball, unpacked once per content."""
    folder = into / f"typescript-{entry.sha256[:12]}"
    if (folder / "lib" / "tsc.js").is_file():
        return folder
    temporary = folder.with_name(folder.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    with tarfile.open(vendor / entry.path) as archive:
        for member in archive:
            parts = Path(member.name).parts[1:]  # npm puts everything below package/
            if member.isfile() and parts[:1] in {("lib",), ("package.json",)} and ".." not in parts:
                source = archive.extractfile(member)
                assert source is not None
                target = temporary.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read())
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
    return folder
