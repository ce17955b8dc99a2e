"""The command line of serve.py: takes arguments, returns the exit status.

python3 serve.py [serve] [--host H] [--port P] [--no-open]      python3 serve.py test [pytest's arguments]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import webbrowser
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nnjit.tune.records import encode_lines

from .browser import find_chromium, find_firefox, find_webkit
from .check import CHECKS, run_checks, unpack_typescript
from .env import Environment
from .httpd import Server
from .lock import SetupError, read_lock
from .postgres import install as install_postgres
from .records_open import best_of_all, open_records
from .records_sql import DatabaseError
from .site import Site
from .suite import run_all
from .vendor import Vendor, print_line
from .wheel import Distribution

ROOT = Path(__file__).resolve().parents[3]
REQUIREMENTS = Path(__file__).with_name("requirements-test.txt")
OTHERS = "tests/others"
"""The tests that run in browsers other than Chromium."""
FIND = {"firefox": find_firefox, "webkit": find_webkit}
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
COMMANDS = ("serve", "test", "check", "bench", "tune", "conformance", "models", "vendor", "wheel", "records")
ABOUT = """\
nnjit runs ONNX models in the browser, on kernels it makes for them.

  python3 serve.py                fetch what is missing, serve the page, open it (serve --help: --port and the like)
  python3 serve.py test           check the code, run all tests (arguments go to pytest; no check then)
  python3 serve.py test --browser firefox     the tests of another browser (or webkit)
  python3 serve.py check          ruff, mypy and tsc alone (or those named: ruff format mypy mypy-3.10 tsc tsc-tests)
  python3 serve.py bench ...      side by side with onnxruntime-web, TF.js, jax-js (bench --help: all it measures)
  python3 serve.py tune MODEL     tune a model in headless Chromium; writes the log and a plot
  python3 serve.py conformance    ONNX's own 2,033 cases in Chromium; writes docs/operators.md
  python3 serve.py models         fetch the models that samples, tests and bench use
  python3 serve.py vendor G ...   fetch groups of web/vendor.lock.json (all of them when none is named)
  python3 serve.py wheel          build the browser's wheel and web/dist/manifest.json
  python3 serve.py records        what the kernel database holds; --export FILE writes its best records
"""


class Project:
    """The checkout: its folders, lock, environment; each command takes from it what it needs."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self.web = root / "web"
        self.lock = read_lock(self.web / "vendor.lock.json")
        self.env = Environment(root / ".venv", print_line)
        self.vendor = Vendor(self.lock, self.web / "vendor", self.env)
        self.dist = Distribution(root, self.lock)

    def site(self) -> Site:
        """web/ as served; the wheel is rebuilt when the page asks for the manifest after a change."""
        site = Site(self.web, self.lock)
        site.before["dist/manifest.json"] = self.dist.refresh
        return site


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="serve.py", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve the page (what no command at all does)")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    serve.add_argument(
        "--port", type=port_number, default=8000, help="0 takes any free one (default %(default)s)"
    )
    serve.add_argument("--no-open", action="store_true", help="do not open the page in a browser")
    serve.add_argument("--verbose", action="store_true", help="print a line for each request")
    serve.add_argument(
        "--records",
        default="",
        metavar="WHERE",
        help="the kernel database: a file (default kernels_cache/records.sqlite3), postgresql://... or off",
    )
    serve.add_argument(
        "--behind-proxy",
        action="store_true",
        help="take a reporter's network from X-Forwarded-For, as the proxy in front wrote it",
    )
    for name, text in (
        ("test", "run the tests"),
        ("bench", "run the side-by-side benchmark"),
        ("tune", "study the tuner on a model"),
        ("conformance", "run ONNX's own cases"),
    ):
        more = commands.add_parser(name, help=text, add_help=False)
        more.add_argument("arguments", nargs=argparse.REMAINDER)
    checks = commands.add_parser("check", help="run the static checks")
    checks.add_argument("only", nargs="*", choices=[*CHECKS, []], metavar="CHECK", help=" or ".join(CHECKS))
    commands.add_parser("models", help="fetch the models")
    vendor = commands.add_parser("vendor", help="fetch groups of vendored files")
    vendor.add_argument("groups", nargs="*", metavar="GROUP")
    commands.add_parser("wheel", help="build the browser's wheel")
    records = commands.add_parser("records", help="what the kernel database holds")
    records.add_argument("--records", default="", metavar="WHERE", help="which one, as for serve")
    records.add_argument("--export", type=Path, metavar="FILE", help="write its best records as JSON lines")
    return top


def port_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give 0 to 65535")
    return int(text)


def split_arguments(arguments: Sequence[str]) -> list[str]:
    """`serve` may be left out; everything after `test`, `bench` or `conformance` belongs to that program."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in {"-h", "--help"}):
        return ["serve", *arguments]
    if arguments[0] in {"test", "bench", "tune", "conformance"}:
        return [arguments[0], "--", *arguments[1:]]
    return list(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(split_arguments(sys.argv[1:] if arguments is None else arguments))
    try:
        project = Project()
        match options.command:
            case "serve":
                return serve(project, options)
            case "test":
                return test(project, without_dashes(options.arguments))
            case "check":
                return check(project, options.only)
            case "bench" | "tune" | "conformance" as name:
                return program(project, name, without_dashes(options.arguments))
            case "models":
                project.vendor.ensure("samples", "models")
            case "vendor":
                groups = options.groups or sorted({e.group for e in project.lock.entries})
                project.vendor.ensure(*groups, ask_again=True)
            case "wheel":
                print_line(f"web/{project.dist.precompile(print_line)['nnjit']['url']}")
            case "records":
                show_records(project, options.records, options.export)
    except SetupError as error:
        print(f"serve.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
    return 0


def without_dashes(arguments: list[str]) -> list[str]:
    return arguments[1:] if arguments[:1] == ["--"] else arguments


def serve(project: Project, options: argparse.Namespace) -> int:
    """Serve until Ctrl-C. The port is taken first: who cannot have it should not wait for downloads."""
    host: str = options.host
    server = Server(project.site(), host, options.port, options.verbose)
    try:
        server.records = open_records(
            project.root, options.records, project.env, print_line, options.behind_proxy
        )
        project.vendor.ensure("runtime")
        samples = project.vendor.ensure("samples", required=False)
        if samples.missing:
            print_line("some built-in samples are missing; serve.py models tries again")
        project.dist.precompile(print_line)
        print_line(f"nnjit is at {server.url}   (Ctrl-C stops it)")
        if host not in LOOPBACK:
            print_line(
                "note: over plain http from another machine a browser does not isolate the page, so it runs\n"
                "one thread there. An ssh tunnel (ssh -L 8000:127.0.0.1:8000 ...) or https gives all of them."
            )
        if not options.no_open and has_screen():
            webbrowser.open(server.url)
        server.serve_forever(0.2)
    except KeyboardInterrupt:
        print_line("\nstopped")
    finally:
        server.server_close()
        if server.records is not None:
            server.records.store.database.close()
    return 0


def show_records(project: Project, where: str, export: Path | None) -> None:
    """Counts of the kernel database, and its best records in a file if one is named."""
    api = open_records(project.root, where, project.env, print_line)
    if api is None:
        raise SetupError("--records off is no database")
    try:
        for name, count in api.store.counts().items():
            print_line(f"{count:8d} {name}")
        if export is not None:
            best = best_of_all(api.store)
            export.write_text(encode_lines(best))
            print_line(f"{len(best)} records in {export}")
    except DatabaseError as error:
        raise SetupError(f"{api.store.database.label}: {error}") from error
    finally:
        api.store.database.close()


def has_screen() -> bool:
    """Whether a browser can show; else `webbrowser` may start a text browser in this terminal."""
    return sys.platform in {"darwin", "win32"} or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def check(project: Project, only: list[str]) -> int:
    """Static checks, all of them if none is named; 1 when one of them failed."""
    project.env.require(REQUIREMENTS)
    project.vendor.ensure("dev")
    entry = project.lock.entry("dev/typescript-6.0.3.tgz")
    typescript = unpack_typescript(entry, project.vendor.folder, project.env.folder)
    return 1 if run_checks(project.root, project.env, typescript, print_line, only) else 0


def test(project: Project, arguments: list[str]) -> int:
    """All tests, after the static checks; with arguments, just pytest with them. `--browser firefox` or `webkit`: tests
    of that browser, those of tests/others if none are named."""
    named = other_browser(arguments)
    if named:
        FIND[named.partition("-")[0]](print_line)
    if named and not any((project.root / each.partition("::")[0]).exists() for each in arguments):
        arguments = [*arguments, OTHERS]
    project.env.require(REQUIREMENTS)
    if not arguments:
        project.vendor.ensure("dev")
    # while other files are fetched, checks compute
    with ThreadPoolExecutor() as beside:
        ready = beside.submit(_ready_for_tests, project, with_others=not arguments)
        checked = 0 if arguments else check(project, [])
        variables = ready.result()
    command = [str(project.env.python), "-m", "pytest"]
    if arguments:
        return subprocess.run([*command, *arguments], cwd=project.root, env=variables, check=False).returncode
    tested = run_all(command, project.root, variables, print_line)
    if checked:
        print("serve.py: the tests ran, but a static check failed; see above", file=sys.stderr)
    return tested or checked


def _ready_for_tests(project: Project, with_others: bool) -> dict[str, str]:
    """Has what tests need beside their environment, browsers other than Chromium if they are meant, too. Returns the
    tests' environment variables."""
    project.vendor.ensure("runtime", "samples", "models")
    # a page that compiles its Python takes twice as long to start
    project.dist.precompile(print_line, project.env.node())
    postgres_missing = install_postgres(print_line)
    if postgres_missing:
        print_line(f"the kernel database is tested on SQLite alone: {postgres_missing}")
    variables = test_variables(project)
    if with_others:
        _firefox_if_it_can_be_had()
    return variables


def other_browser(arguments: Sequence[str]) -> str:
    """The browser that `--browser` names, '' for Chromium."""
    named = ""
    for word, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if word == "--browser":
            named = following
        elif word.startswith("--browser="):
            named = word.removeprefix("--browser=")
    return named if named.partition("-")[0] in FIND else ""


def _firefox_if_it_can_be_had() -> None:
    try:
        find_firefox(print_line)
    except SetupError as error:
        print_line(f"tests of other browsers are skipped: {error}")


def program(project: Project, name: str, arguments: list[str]) -> int:
    """tests/NAME/run.py (tests/bench/tune.py for `tune`) in the environment, with the peers fetched."""
    project.env.require(REQUIREMENTS)
    script = "bench/tune.py" if name == "tune" else f"{name}/run.py"
    command = [str(project.env.python), str(project.root / "tests" / script), *arguments]
    if {"-h", "--help"} & set(arguments):
        variables = with_path(project)
    else:
        project.vendor.ensure("runtime", "samples", "models", "bench")
        project.dist.refresh()
        variables = test_variables(project)
    return subprocess.run(command, cwd=project.root, env=variables, check=False).returncode


def test_variables(project: Project) -> dict[str, str]:
    """The environment of tests and bench: where Chromium is, where py/ is."""
    # Playwright's own Node.js needs libatomic, which a bare Debian lacks; the pinned one does not
    os.environ.setdefault("PLAYWRIGHT_NODEJS_PATH", str(project.env.node()))
    chromium = find_chromium(project.env.python, print_line)
    print_line(f"browser: {chromium}")
    return {**with_path(project), "NNJIT_CHROMIUM": chromium}


def with_path(project: Project) -> dict[str, str]:
    """This environment with py/ among Python's paths."""
    path = os.pathsep.join(p for p in (str(project.root / "py"), os.environ.get("PYTHONPATH", "")) if p)
    return {**os.environ, "PYTHONPATH": path}
