"""A private PostgreSQL for the tests: finds the server's programs (Debian's package, as root, where there are none)
and starts a cluster in a folder of its own, on a Unix socket alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .transfer import Say

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql*/bin")
USERS = ("postgres", "nobody")
SETTINGS = {
    "listen_addresses": "''",
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "logging_collector": "off",
}


def find_programs() -> Path | None:
    """The folder that holds initdb and postgres."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    for place in PLACES:
        folders += sorted(Path("/").glob(place.lstrip("/")), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


def install(say: Say) -> str:
    """Debian's package where there is no PostgreSQL; "" when its programs are there, else why not."""
    if find_programs():
        return ""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return "no PostgreSQL on this machine (sudo apt-get install postgresql)"
    say("install Debian's postgresql")
    # RUNLEVEL=1: the package shall not start its own server
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    command = ["apt-get", "install", "-qy", "--no-install-recommends", "postgresql"]
    for step in (["apt-get", "update", "-q"], command):
        done = subprocess.run(step, env=env, capture_output=True, text=True, check=False)
    if find_programs():
        return ""
    return f"Debian's postgresql: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"


class Cluster:
    """A database server that only this folder's socket reaches. `url` is for a superuser without a password."""

    def __init__(self, programs: Path, folder: Path, user: str | None) -> None:
        self.programs, self.folder, self.user = programs, folder, user
        self.url = f"postgresql://tester@/postgres?host={folder}"
        self._server: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """initdb; it refuses root, so root becomes `user` for it."""
        data = str(self.folder / "data")
        command = [str(self.programs / "initdb"), "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8"]
        command += ["--no-sync", "--locale=C"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=self.folder, user=self.user,
            env=self._environment(),
        )  # fmt: skip
        if done.returncode:
            raise OSError((done.stderr.strip().splitlines() or ["initdb failed"])[-1])

    def start(self) -> None:
        """Starts the server, waits until it answers; OSError with the end of its log if it stops, or after 10 s."""
        options = [o for name, value in SETTINGS.items() for o in ("-c", f"{name}={value.strip(chr(39))}")]
        command = [
            str(self.programs / "postgres"),
            "-D",
            str(self.folder / "data"),
            "-k",
            str(self.folder),
            *options,
        ]
        log = (self.folder / "log").open("ab")
        with log:
            self._server = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder, user=self.user,
                env=self._environment(),
            )  # fmt: skip
        for _ in range(200):
            if self._server.poll() is not None:
                raise OSError("postgres stopped: " + (self.folder / "log").read_text()[-500:])
            if self._ready():
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.wait(0.05)
        raise OSError("postgres did not start in 10 s")

    def stop(self, at_once: bool = False) -> None:
        """Ends the server; `at_once` as a power cut would, for tests of what survives."""
        if self._server is not None:
            self._server.kill() if at_once else self._server.send_signal(2)
            self._server.wait(20)
            self._server = None
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def _ready(self) -> bool:
        command = [str(self.programs / "pg_isready"), "-q", "-h", str(self.folder)]
        return subprocess.run(command, check=False, env=self._environment()).returncode == 0

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        return {**kept, "LC_ALL": "C"}


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A running cluster, removed afterwards; OSError with the reason where there can be none."""
    programs = find_programs()
    if programs is None:
        raise OSError("no PostgreSQL on this machine")
    user = _unprivileged() if os.geteuid() == 0 else None
    # a socket's path has at most 107 bytes, which a test's own folder may exceed
    folder = Path(tempfile.mkdtemp(prefix="nnjit-pg-", dir="/tmp"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        made = Cluster(programs, folder, user)
        made.make()
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> str:
    import pwd  # not on Windows, where serve.py imports this file too

    for name in USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise OSError(f"none of the users {', '.join(USERS)} exists, and PostgreSQL does not run as root")
