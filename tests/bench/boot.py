"""From opening a page to the first result of a tiny model, beside onnxruntime-web: a first visit, and later ones.

    python3 serve.py bench --boot
    python3 serve.py bench --boot --rounds 5 --visits 3 --libraries nnjit

A round is a profile of its own for each library, with nothing in any cache; a visit is a browser started on it. The
next visit comes after the page has had some idle seconds, and nnjit has kept Python's memory for it. Times are ms since
the import of the library was asked for; *ready*: Python and the compiler are up; then a session of y = Sigmoid(x) and
its first run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Playwright, sync_playwright

from nnjit.devtools.cli import Project
from nnjit.devtools.httpd import Server
from tests.bench.first import small_model
from tests.bench.first_samples import LIBRARIES
from tests.device.conftest import executable
from tests.support.browser import TESTS

MILESTONES = ("import", "ready", "create", "first")


def visit(playwright: Playwright, profile: str, url: str, call: list[Any], idle: float) -> dict[str, Any]:
    """One browser on `profile`: what boot.js measures; then so many seconds in which the page may keep things."""
    context = playwright.chromium.launch_persistent_context(profile, executable_path=executable())
    try:
        page = context.pages[0]
        page.set_default_timeout(120_000)
        page.goto(url)
        page.wait_for_timeout(1500)  # a browser has its own work first
        page.evaluate("import('/t/bench/boot.js').then((found) => { Object.assign(window, found); })")
        found: dict[str, Any] = page.evaluate("(a) => boot(...a)", call)
        page.wait_for_timeout(1000 * idle)
        if call[0] == "nnjit":
            found["kept"] = page.evaluate("kept()")
        return found
    finally:
        context.close()


def table(rows: dict[str, list[list[dict[str, Any]]]]) -> str:
    """Medians over the rounds; the worker's stages below."""
    lines = ["| | visit | " + " | ".join(MILESTONES) + " |", "|---" * (2 + len(MILESTONES)) + "|"]
    stages: list[str] = []
    for library, visits in rows.items():
        for number, found in enumerate(visits, 1):
            cells = [
                f"{statistics.median(one[name] for one in found):.0f}" if name in found[0] else ""
                for name in MILESTONES
            ]
            lines.append(f"| {library} | {number} | {' | '.join(cells)} |")
            if "stages" in found[0]:
                names = dict.fromkeys(name for one in found for name in one["stages"])
                parts = (
                    f"{n} {statistics.median(one['stages'].get(n, 0) for one in found):.0f}" for n in names
                )
                stages.append(f"{library}, visit {number}: {', '.join(parts)}")
    return "\n".join([*lines, "", *stages])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bench --boot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--visits", type=int, default=3, help="of each profile; default %(default)s")
    parser.add_argument("--idle", type=float, default=4, help="seconds after each visit; default %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="default %(default)s")
    parser.add_argument("--libraries", default=",".join(LIBRARIES), help="default %(default)s")
    parser.add_argument("--out", type=Path, help="a folder for boot-DATE.json")
    options = parser.parse_args(arguments)
    project = Project()
    project.dist.precompile(print)
    server = Server(project.site())
    server.site.mount("t", TESTS)
    model = server.site.put("~/tiny.onnx", small_model())
    server.start()
    rows: dict[str, list[list[dict[str, Any]]]] = {name: [] for name in options.libraries.split(",")}
    with sync_playwright() as playwright:
        for _ in range(options.rounds):
            for library, visits in rows.items():
                with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
                    for number in range(options.visits):
                        call = [library, model, options.threads]
                        url = server.url + "t/support/blank.html"
                        found = visit(playwright, profile, url, call, options.idle)
                        if number == len(visits):
                            visits.append([])
                        visits[number].append(found)
    server.shutdown()
    server.server_close()
    print(table(rows))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"boot-{time.strftime('%Y%m%d-%H%M%S')}.json"
        record = {
            "date": time.strftime("%Y-%m-%dT%H:%M:%S"),
            "options": vars(options) | {"out": None},
            "rows": rows,
        }
        path.write_text(json.dumps(record, indent=1) + "\n")
        print(path)
    return 0
