"""ONNX's own 2,033 cases through nnjit, by one command: `python3 serve.py conformance [PATTERN...]`.

run.py           every case in Chromium through the public API; writes the results and docs/operators.md
run.py Conv node/test_add    only cases whose name or operators match
run.py --local   on CPython, kernels under wasmtime (no browser): the quick check while developing
run.py --peer    the same cases on onnxruntime-web, to compare
run.py --browser firefox (or webkit)   in that browser; the table of operators stays as it is
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
if __package__ in (None, ""):
    sys.path[:0] = [str(ROOT), str(ROOT / "py")]

from tests.conformance import outcome as outcomes_of  # noqa: E402
from tests.conformance.cases import Case, load_cases, select, stratified  # noqa: E402
from tests.conformance.local import run_case, run_local  # noqa: E402
from tests.conformance.outcome import Outcome  # noqa: E402
from tests.support.others import OTHERS  # noqa: E402

RESULTS = ROOT / "tests" / ".out" / "conformance"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="conformance", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "patterns", nargs="*", help="parts of case names, or operators; all cases without any"
    )
    parser.add_argument("--local", action="store_true", help="CPython and wasmtime instead of the browser")
    parser.add_argument("--peer", action="store_true", help="onnxruntime-web instead of nnjit")
    parser.add_argument(
        "--subset", type=int, metavar="N", help="a fixed N of the cases, every operator among them"
    )
    parser.add_argument("--jobs", type=int, default=1, help="with --local: processes")
    parser.add_argument("--threads", type=int, default=2, help="in the browser: numThreads of a session")
    parser.add_argument(
        "--provider", default="wasm", help="wasm, webgpu, or reference (all on onnx.reference)"
    )
    parser.add_argument("--browser", default="chromium", choices=["chromium", *OTHERS])
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one case")
    parser.add_argument("--debug", action="store_true", help="with --local: tracebacks, in this process")
    parser.add_argument("--failed", action="store_true", help="only those that didn't pass last time")
    parser.add_argument("--no-write", action="store_true", help="leave the results and the table as they are")
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for each case")
    return parser.parse_args(argv)


def runner(args: argparse.Namespace, cases: list[Case]) -> Iterable[Outcome]:
    if args.local and args.debug:
        return (run_case(case, debug=True) for case in cases)
    if args.local:
        return run_local(cases, args.jobs, args.timeout)
    from tests.conformance.browser import run_browser

    return run_browser(
        cases,
        peer=args.peer,
        threads=args.threads,
        timeout=args.timeout,
        provider=args.provider,
        browser=args.browser,
    )


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    ours = "nnjit" if args.provider == "wasm" else f"nnjit-{args.provider}"
    ours += "" if args.browser == "chromium" else f"-{args.browser}"
    stored = RESULTS / f"{'local' if args.local else 'onnxruntime-web' if args.peer else ours}.json"
    cases = select(load_cases(), args.patterns)
    if args.subset:
        cases = stratified(tuple(cases), args.subset)
    if args.failed:
        passed = {o.id for o in outcomes_of.read(stored)[1] if o.status == "pass"}
        cases = [c for c in cases if c.id not in passed]
    print(f"{len(cases)} cases", flush=True)
    start, outcomes = time.monotonic(), []
    for number, outcome in enumerate(runner(args, cases), 1):
        outcomes.append(outcome)
        if args.verbose:
            print(
                f"{outcome.status:8s}{outcome.ms:8.0f} ms  {outcome.id}  {outcome.code} {outcome.reason}",
                flush=True,
            )
        elif number % 100 == 0:
            print(f"  {number} in {time.monotonic() - start:.0f} s", flush=True)
    outcomes_of.report(outcomes)
    print(f"{time.monotonic() - start:.0f} s")
    if not args.no_write:
        keep(stored, outcomes, cases)
        whole = not (args.patterns or args.subset or args.failed)
        if whole and stored.stem == "nnjit":
            from tests.conformance.table import write_table

            write_table(ROOT / "docs" / "operators.md", RESULTS)
    return 0 if all(o.status == "pass" for o in outcomes) else 1


def keep(stored: Path, outcomes: list[Outcome], cases: list[Case]) -> None:
    """Merges the outcomes into the results file: a run of some cases leaves the others' results."""
    known = {o.id: o for o in outcomes_of.read(stored)[1]} if stored.exists() else {}
    known |= {o.id: o for o in outcomes}
    order = [c.id for c in load_cases()]
    about = {"date": time.strftime("%Y-%m-%d"), "cases": len(order)}
    outcomes_of.write(stored, about, (known[i] for i in order if i in known))


if __name__ == "__main__":
    raise SystemExit(main())
