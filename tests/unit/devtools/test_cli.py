"""serve.py as a person starts it: arguments, a taken port, Ctrl-C; and what it may import."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from nnjit.devtools import cli
from nnjit.devtools.lock import read_lock

SERVE = [sys.executable, str(cli.ROOT / "serve.py")]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SERVE, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_help_tells_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    for command in cli.COMMANDS:
        assert f"serve.py {command}" in done.stdout or command == "serve"


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ([], ["serve"]),
        (["--port", "0"], ["serve", "--port", "0"]),
        (["serve", "--no-open"], ["serve", "--no-open"]),
        (["--help"], ["--help"]),
        (["test", "-k", "x", "--help"], ["test", "--", "-k", "x", "--help"]),
        (["bench", "--quick"], ["bench", "--", "--quick"]),
        (["check", "mypy"], ["check", "mypy"]),
    ],
)
def test_serve_may_be_left_out_and_pytest_gets_its_own_arguments(given: list[str], parsed: list[str]) -> None:
    assert cli.split_arguments(given) == parsed


@pytest.mark.parametrize("name", ["bench", "conformance"])
def test_help_of_a_program_fetches_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    project = cli.Project()
    monkeypatch.setattr(project.env, "require", lambda *_: None)
    monkeypatch.setattr(project.vendor, "ensure", lambda *_, **__: pytest.fail("fetched"))
    monkeypatch.setattr(project.dist, "refresh", lambda: pytest.fail("built"))

    def start(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        started.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", start)
    assert cli.program(project, name, ["--help"]) == 0
    assert started[0][-1] == "--help" and (cli.ROOT / "tests" / name / "run.py").samefile(started[0][1])


def test_what_follows_test_reaches_pytest_unchanged() -> None:
    options = cli.parser().parse_args(cli.split_arguments(["test", "-k", "a or b", "--", "-x"]))
    assert cli.without_dashes(options.arguments) == ["-k", "a or b", "--", "-x"]


@pytest.mark.parametrize("port", ["-1", "65536", "http", "１"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    done = run("serve", f"--port={port}")
    assert done.returncode == 2 and "is no port" in done.stderr


def test_a_taken_port_ends_it_with_a_message_and_no_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--no-open", "--port", str(port))
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken" in done.stderr and "--port 0" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_serves_the_page_and_ctrl_c_stops_it(vendor: Callable[[str], Path]) -> None:
    vendor("pyodide-314.0.3/pyodide.mjs")
    vendor("models/magika-1.0.3/model.onnx")
    process = subprocess.Popen(
        [*SERVE, "--no-open", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # tests that run in the background of a shell inherit that SIGINT is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        lines: list[str] = []  # what is compiled for the page is told before
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/", "".join(lines))):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr
        with urllib.request.urlopen(found.group() + "dist/manifest.json", timeout=60) as response:
            assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "stopped" in out and "Traceback" not in err


def test_an_unknown_group_is_told() -> None:
    done = run("vendor", "nope")
    assert done.returncode == 1 and "no group 'nope'" in done.stderr


def test_setup_needs_the_standard_library_alone() -> None:
    code = f"""
import sys
sys.path.insert(0, {str(cli.ROOT / "py")!r})
import nnjit.devtools.cli
names = {{name.partition(".")[0] for name in sys.modules}}
print(sorted(names - set(sys.stdlib_module_names) - {{"nnjit", "__main__"}}))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_ci_runs_what_a_person_runs() -> None:
    script = (cli.ROOT / ".ci" / "run").read_text()
    assert script.rstrip().endswith("exec python3 serve.py test")
    assert os.access(cli.ROOT / ".ci" / "run", os.X_OK)


def test_the_lock_names_versions_in_paths_because_they_are_immutable() -> None:
    lock = read_lock(cli.ROOT / "web" / "vendor.lock.json")
    for entry in lock.entries:
        versions = {re.split("==|@", s.ref)[-1] for s in entry.sources if s.kind != "cdn"}
        assert lock.pyodide in entry.path or any(v in entry.path for v in versions), entry.path
        assert all(lock.pyodide in s.ref for s in entry.sources if s.kind == "cdn")


def test_every_requirement_is_pinned() -> None:
    for line in cli.REQUIREMENTS.read_text().splitlines():
        if line and not line.startswith("#"):
            assert re.match(r"[\w.-]+==[\w.]+(; python_version [<>]=? \"3\.11\")?$", line), line


def test_no_browser_is_started_without_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not cli.has_screen()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert cli.has_screen()
