"""Side by side: nnjit and its peers on the same models and operators, in one page, in turn.

    python3 serve.py bench                          operators and all models, at one and two threads
    python3 serve.py bench --browser firefox ...    in that browser (or webkit)
    python3 serve.py bench --ops gemm               operators whose name holds `gemm`, no models
    python3 serve.py bench --ops memory             all that memory bounds: moves, reductions, pooling, norms, scans
    python3 serve.py bench --models resnet-50,minilm --threads 1 --repeats 30
    python3 serve.py bench --where gpt2,minilm      whole models by kind of step, beside the peak (see where.py)
    python3 serve.py bench --layers 'conv 1x'       convolutions and quantised layers against the machine's limits
    python3 serve.py bench --blocked [TEXT]         layers with channels last and in blocks (NCHWc)
    python3 serve.py bench --leak magika            50 rounds of create, run, release: memory before and after
    python3 serve.py bench --overhead               what a run() costs beside its kernels, 4 bytes to 50 MB
    python3 serve.py bench --starts                 what it costs to start a second thread for a short run
    python3 serve.py bench --gpu [PART,...]         WebGPU: products, vectors, rows, models (see gpu/main.py)
    python3 serve.py bench --compiling [MODEL,...]  what Python takes for a first plan, by stage (see compiling.py)
    python3 serve.py bench --decode [STUDY,...]     lengths that change every run: tokens, sentences (see decode.py)
    python3 serve.py bench --boot                   from opening a page to a first result, on first and later visits
    python3 serve.py bench --first [MODEL,...]      the way to a first result, from the file on (see first.py)
    python3 serve.py bench --records [postgres]     the kernel database under load; no browser
    python3 serve.py bench --claims [STUDY ...]     the tuner held to its claims, study by study (claims/main.py)
    python3 serve.py bench --llvm                   the same loop nests through emcc and clang: cost and speed

Writes tests/bench/results/DATE.json and prints a table; --docs puts the table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
if __package__ in (None, ""):
    sys.path[:0] = [str(ROOT), str(ROOT / "py")]

from playwright.sync_api import Error as PlaywrightError  # noqa: E402

from tests.bench import (  # noqa: E402
    boot,
    compiling,
    convolutions,
    decode,
    first,
    leak,
    overhead,
    records,
    starts,
    steps,
    where,
)
from tests.bench.blocked import main as blocked  # noqa: E402
from tests.bench.claims import main as claims  # noqa: E402
from tests.bench.gpu import main as gpu  # noqa: E402
from tests.bench.jobs import chosen, model_job, op_job  # noqa: E402
from tests.bench.limits import (  # noqa: E402
    dot_peak,
    fma_peak,
    machine,
    memory_rates,
    open_page,
    read_rate,
)
from tests.bench.llvm import main as llvm  # noqa: E402
from tests.bench.operators.op import Op, traffic  # noqa: E402
from tests.bench.operators.ops import all_ops  # noqa: E402
from tests.bench.tables import report  # noqa: E402
from tests.models import catalogue  # noqa: E402
from tests.support.browser import Lab, started  # noqa: E402
from tests.support.others import OTHERS, other_lab  # noqa: E402
from tests.support.remote import RemoteError  # noqa: E402

RESULTS = Path(__file__).parent / "results"
GRAIN_MS = 25
"""A sample of a layer: the first 10 ms after another library ran are slower, for either."""
LIBRARIES = ("nnjit", "onnxruntime-web", "tfjs", "jax-js")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", help="names separated by commas, `small` or `all`; see tests/models/catalogue.py"
    )
    parser.add_argument(
        "--ops", nargs="?", const="", help="operators, those whose name holds the text if given"
    )
    parser.add_argument("--libraries", default=",".join(LIBRARIES), help="default %(default)s")
    parser.add_argument(
        "--threads", default="1,2", help="thread counts, a page for each; default %(default)s"
    )
    parser.add_argument("--repeats", type=int, default=15, help="samples of each; default %(default)s")
    parser.add_argument(
        "--warm", type=float, default=0.7, help="seconds of warming up each; default %(default)s"
    )
    parser.add_argument("--browser", default="chromium", choices=["chromium", *OTHERS])
    parser.add_argument("--steps", help="time each step of one model or operator instead")
    parser.add_argument("--where", help="where the time of these models goes, by kind of step, instead")
    parser.add_argument("--layers", help="time the steps of layers whose name holds one of a|b instead")
    parser.add_argument(
        "--ways", action="store_true", help="also outputs given again, and outputs left with the library"
    )
    parser.add_argument(
        "--blocked", nargs="?", const="", help="time layers under several orders of channels instead"
    )
    parser.add_argument("--verbose", action="store_true", help="with --layers: each step and its schedule")
    parser.add_argument("--shapes", action="store_true", help="models at their further shapes too")
    parser.add_argument("--docs", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument(
        "--leak", metavar="MODEL", help="create, run and release a model again and again instead"
    )
    parser.add_argument(
        "--overhead", action="store_true", help="what a run() costs beside its kernels instead"
    )
    parser.add_argument("--starts", action="store_true", help="what starting threads costs instead")
    parser.add_argument(
        "--records",
        nargs="?",
        const="sqlite",
        metavar="KIND",
        help="load the kernel database instead: sqlite or postgres",
    )
    parser.add_argument(
        "--llvm", action="store_true", help="compare with what LLVM makes of the same loop nests instead"
    )
    parser.add_argument("--rounds", type=int, default=50, help="with --leak; default %(default)s")
    return parser.parse_args(argv)


def measure(lab: Lab, args: argparse.Namespace, threads: int, save: Callable[[dict[str, Any]], None]) -> None:
    """Everything at one thread count; `save` gets the run after each row, so that stopping early loses little."""
    page, failed = open_page(lab, args.libraries.split(","), threads)
    for name, why in failed.items():
        print(f"{name} didn't start: {why}", flush=True)
    yardstick = fma_peak(page, lab, threads)
    print(f"\n{threads} thread(s): FMA peak {yardstick:.1f} GFLOP/s", flush=True)
    how = {"repeats": args.repeats, "warmMs": 1000 * args.warm, "ways": args.ways}
    rows: list[dict[str, Any]] = []
    rates: dict[int, tuple[float, float]] = {}
    run: dict[str, Any] = {"threads": threads, "peak": yardstick, "failed": failed, "rows": rows}
    for number, (name, what, shape) in enumerate(chosen(args)):
        is_op = isinstance(what, Op)
        url = op_job(lab, what, number) if isinstance(what, Op) else model_job(lab, what, shape)
        try:
            results = page.evaluate("([url, how]) => bench.measure(url, how)", [url, how])
        except (PlaywrightError, RemoteError) as error:  # the page is gone: note it, go on in a new one
            results = {"page": {"failed": str(error).splitlines()[0]}}
            page, _ = open_page(lab, args.libraries.split(","), threads)
        lab.site.memory.pop(url.strip("/"), None)
        flops = what.flops if isinstance(what, Op) else report.plan_flops(results)
        rows.append({"name": name, "kind": "op" if is_op else "model", "flops": flops, "results": results})
        if isinstance(what, Op) and what.streamed:
            rows[-1] |= {
                "streamed": what.streamed,
                "bandwidth": read_rate(page, lab, what.streamed, threads),
            }
        if isinstance(what, Op) and what.kind == "memory":
            moved = traffic(what)
            rows[-1] |= {"traffic": moved, "rates": memory_rates(page, lab, sum(moved), threads, rates)}
        print(report.line(rows[-1], yardstick), flush=True)
        save(run)
    run["peak"] = max(
        yardstick, fma_peak(page, lab, threads)
    )  # whatever else the machine did, this much it can
    save(run)
    page.context.close()


def profile(lab: Lab, args: argparse.Namespace) -> int:
    """The steps of one operator or model."""
    threads = int(args.threads.split(",")[0])
    page, _ = open_page(lab, [], threads)
    yardstick = fma_peak(page, lab, threads)
    page.context.close()
    ops = all_ops()
    found = (
        op_job(lab, ops[args.steps], 0)
        if args.steps in ops
        else model_job(lab, (catalogue.MODELS | catalogue.BYTES)[args.steps], 0)
    )
    return steps.main(lab, found, threads, args.repeats, yardstick)


def whole(lab: Lab, args: argparse.Namespace) -> int:
    """Models by kind of step, a row each as soon as it is there."""
    runs = []
    for threads in map(int, args.threads.split(",")):
        page, _ = open_page(lab, [], threads)
        yardstick = max(fma_peak(page, lab, threads) for _ in range(2))
        page.context.close()
        for name in args.where.split(","):
            url = model_job(lab, (catalogue.MODELS | catalogue.BYTES)[name], 0)
            runs.append(where.measured(lab, name, url, threads, args.repeats, yardstick))
            print(runs[-1].row(), flush=True)
    text = where.section(machine(lab), runs)
    print(text)
    if args.docs:
        where.write(text)
    return 0


def layers(lab: Lab, args: argparse.Namespace, threads: int) -> int:
    """Layers beside the limits of the machine, and beside onnxruntime-web."""

    def limits(threads: int) -> convolutions.Limits:
        page, _ = open_page(lab, [], threads)
        speeds = {size: read_rate(page, lab, size, threads) for size in convolutions.SIZES}
        madds, dots = (max(f(page, lab, threads) for _ in range(2)) for f in (fma_peak, dot_peak))
        page.context.close()
        return convolutions.Limits(madds, dots, speeds)

    how = {"repeats": args.repeats, "warmMs": 1000 * args.warm, "grain": GRAIN_MS}
    names = args.libraries.split(",")
    return convolutions.main(lab, args.layers, names, threads, how, op_job, limits, RESULTS, args.verbose)


def main(argv: list[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else argv
    if "--gpu" in given:
        return gpu.main([a for a in given if a != "--gpu"])
    if given[:1] == ["--compiling"]:
        return compiling.main(given[1:])
    if given[:1] == ["--decode"]:
        return decode.main(given[1:])
    if given[:1] == ["--boot"]:
        return boot.main(given[1:])
    if given[:1] == ["--first"]:
        return first.main(given[1:])
    if given[:1] == ["--claims"]:
        return claims.main(given[1:])
    args = parse(argv)
    if args.records:
        return records.main(args.records, args.docs)
    opened: Any = other_lab(args.browser) if args.browser in OTHERS else started()
    with opened as lab:
        if args.steps:
            return profile(lab, args)
        if args.where:
            return whole(lab, args)
        if args.layers:
            return max(layers(lab, args, int(n)) for n in args.threads.split(","))
        if args.blocked is not None:
            return blocked.main(lab, args.blocked, [int(n) for n in args.threads.split(",")])
        if args.llvm:
            return llvm.main(lab, args.docs)
        if args.leak:
            return leak.main(lab, catalogue.MODELS[args.leak], args.rounds)
        if args.overhead:
            return max(overhead.main(lab, int(n), args.repeats) for n in args.threads.split(","))
        if args.starts:
            return starts.main(lab, op_job, args.docs)
        about = machine(lab)
        print(f"{about['cpu']}, {about['cores']} cores, {about['browser']}", flush=True)
        data: dict[str, Any] = {"about": about, "runs": []}
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}.json"

        def save(run: dict[str, Any]) -> None:
            data["runs"] = [r for r in data["runs"] if r["threads"] != run["threads"]] + [run]
            path.write_text(json.dumps(data, indent=1) + "\n")

        for n in args.threads.split(","):
            measure(lab, args, int(n), save)
    print("\n" + report.markdown(data))
    print(f"written: {path.relative_to(ROOT)}")
    if args.docs:
        report.write_docs([path])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
