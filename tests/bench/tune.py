"""A study of the tuner: a model tuned in headless Chromium while it is used, the whole log as JSON lines, and a plot.

    python3 serve.py tune magika                          30 seconds at two threads, candidates tried in every pause
    python3 serve.py tune resnet-50 --mode idle --gap 0   under steady load: what tuning adds to each inference
    python3 serve.py tune magika --mode idle --gap 1000   a run a second
    python3 serve.py tune --spaces resnet-50,gpt2         raw and filtered counts of each kernel, no browser
    python3 serve.py tune --sample 100 mobilenet-v2       the best listed schedule against the raw space's
    python3 serve.py tune resnet-50 --backend webgpu      on the GPU; with --sample: the list against the space
    python3 serve.py tune several-forms --gap -1          a small model whose nodes have forms: what a replay test uses
    python3 serve.py tune --device                        measure the device's facts

Writes tests/bench/results/tune-MODEL.jsonl (a head, then one line a candidate, swap and inference) and .svg.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
if __package__ in (None, ""):
    sys.path[:0] = [str(ROOT), str(ROOT / "py")]

from nnjit.codegen.wasm.target import Target  # noqa: E402
from nnjit.tune.space_wasm import space_of  # noqa: E402
from tests.bench import spaces as sampled  # noqa: E402
from tests.bench.jobs import pack  # noqa: E402
from tests.models import catalogue  # noqa: E402
from tests.support.browser import Lab, started  # noqa: E402
from tests.support.small_models import several_forms  # noqa: E402

SMALL = "several-forms"
RESULTS = Path(__file__).parent / "results"
COLOURS = {"timed": "#7a8288", "slow": "#b9bec2", "faster": "#0b6b63"}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", help="names of tests/models/catalogue.py")
    parser.add_argument("--seconds", type=float, default=30.0, help="of tuning; default %(default)s")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mode", choices=("idle", "now"), default="now")
    parser.add_argument(
        "--gap", type=float, default=0.0, help="ms between inferences; negative: none while tuning"
    )
    parser.add_argument("--before", type=int, default=20, help="inferences to compare with")
    parser.add_argument("--shape", type=int, default=0, help="which of the model's shapes")
    parser.add_argument("--cache", default="", help="URL of a record server")
    parser.add_argument(
        "--spaces", metavar="MODELS", help="count the spaces of these models' kernels instead"
    )
    parser.add_argument("--sample", type=int, default=0, help="time so many raw schedules a kernel instead")
    parser.add_argument(
        "--near", type=float, default=0.0, metavar="F",
        help="webgpu, with --sample: others that the cost model expects to take F times the best at most",
    )  # fmt: skip
    parser.add_argument("--kernels", type=int, default=6, help="with --sample: how many kernels")
    parser.add_argument("--device", action="store_true", help="measure the device's facts instead")
    parser.add_argument(
        "--backend", choices=("wasm", "webgpu"), default="wasm", help="webgpu: tests/bench/gpu/tune.py"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    if args.spaces:
        for name in args.spaces.split(","):
            print(spaces(name, args.shape))
        return 0
    if args.backend == "webgpu":
        from tests.bench.gpu import tune as gpu_tune

        with gpu_tune.on_device() as lab:
            if args.sample:
                print(gpu_tune.sample(lab, args.sample, args.seconds, args.out, args.models, args.near))
            else:
                studies(lab, args)
        return 0
    with started() as lab:
        if args.device:
            print(json.dumps(device(lab), indent=1))
            return 0
        if args.sample:
            for name in args.models or ["mobilenet-v2"]:
                rows = sampled.run(lab, name, args.shape, args.sample, args.kernels, args.threads)
                args.out.mkdir(parents=True, exist_ok=True)
                (args.out / f"spaces-{name}.json").write_text(json.dumps(rows, indent=1))
                print(sampled.table(name, rows))
            return 0
        studies(lab, args)
    return 0


def studies(lab: Lab, args: argparse.Namespace) -> None:
    """Each model in turn: its log, its plot, and what a reader wants first."""
    for name in args.models or ["magika"]:
        found = study(lab, name, args)
        lines = log_lines(name, args, found)
        args.out.mkdir(parents=True, exist_ok=True)
        kind = "-idle" * (args.mode == "idle") + "-webgpu" * (args.backend == "webgpu")
        stem = args.out / f"tune-{name}{kind}"
        stem.with_suffix(".jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        stem.with_suffix(".svg").write_text(plot(name, found))
        print(summary(name, found))


def study(lab: Lab, name: str, args: argparse.Namespace) -> dict[str, Any]:
    if name == SMALL:
        code, feeds = several_forms()
        at = lab.site.put(f"tune/{name}.onnx", code)
    else:
        model = catalogue.MODELS[name]
        path = model.path()
        at = lab.site.mount(f"m/{name}", path.parent) + path.name
        feeds = model.feeds(args.shape)
    job = {"name": name, "kind": "model", "url": at, "attrs": {}}
    url = lab.site.put(f"tune/{name}.bin", pack(job, feeds, {}, {}))
    how = {"threads": args.threads, "mode": args.mode, "seconds": args.seconds, "gapMs": args.gap,
           "before": args.before, "cacheUrl": args.cache, "backend": args.backend}  # fmt: skip
    page = lab.page("t/bench/bench.html")
    warnings: list[str] = []  # of kernels that a driver gets wrong, among others
    page.on("console", lambda message: warnings.append(message.text) if message.type == "warning" else None)
    try:
        found: dict[str, Any] = page.evaluate(
            "async ([u, h]) => (await import('/t/bench/tune.js')).study(u, h)", [url, how]
        )
        found["warnings"] = warnings
    finally:
        page.context.close()
    return found


def device(lab: Lab) -> dict[str, Any]:
    page = lab.page("t/bench/bench.html")
    found: dict[str, Any] = page.evaluate(
        """async () => {
          const nnjit = await import('/nnjit.js');
          await nnjit.ready;
          const { deviceFacts } = await import('/api/device-facts.js');
          return deviceFacts({ again: true });
        }"""
    )
    return found


def spaces(name: str, shape: int) -> str:
    """A line a kernel of a model: steps, raw choices, what the rules leave."""
    from nnjit.runtime.local import LocalSession

    model = catalogue.MODELS[name]
    session = LocalSession(model.path().read_bytes(), target=Target(threads=2, shared=False))
    plan = session._plan(model.feeds(shape))[0]
    rows: dict[str, list[Any]] = {}
    for i in range(len(plan.steps)):
        spec = plan.kernel_of(i).spec
        if spec.key in rows:
            rows[spec.key][1] += 1
            continue
        space = space_of(spec, Target(threads=2, shared=True))
        rows[spec.key] = [spec.name, 1, space.kind, space.raw, len(space.lite())]
    lines = [
        f"{n:46.46s} x{c:<3d} {kind:10s} raw {raw:6d}  listed {lite:3d}"
        for n, c, kind, raw, lite in rows.values()
    ]
    most = max(r[4] for r in rows.values())
    total = sum(r[3] for r in rows.values())
    return "\n".join(
        [name, *lines, f"{len(rows)} kernels, {total} raw choices, at most {most} listed for one"]
    )


def log_lines(name: str, args: argparse.Namespace, found: dict[str, Any]) -> list[dict[str, Any]]:
    """A head, then what happened in order: the form that tests/unit/tune/test_replay.py replays."""
    head = {"kind": "head", "model": name, "mode": args.mode, "threads": args.threads, "gapMs": args.gap,
            "status": {k: v for k, v in found["status"].items() if k != "kernels"}, "facts": found["facts"],
            "firstMs": found["firstMs"], **found["dump"]}  # fmt: skip
    lines = [head, *({"kind": "warning", "text": text} for text in found["warnings"])]
    for event in found["events"]:
        detail = event["detail"]
        if event["kind"] == "kernel":
            lines.append({"kind": "timed", "at": event["at"], "key": detail["key"], "name": event["name"],
                          "ms": detail["ms"], "ok": event["verdict"] == "timed"})  # fmt: skip
        elif event["kind"] == "trial":
            lines.append({"kind": "trial", "at": event["at"], **detail, "text": event["text"]})
        elif event["kind"] in ("form", "plan"):
            lines.append(
                {
                    "kind": event["kind"],
                    "at": event["at"],
                    "name": event["name"],
                    "text": event["text"],
                    **detail,
                }
            )
        elif event["kind"] == "swap":
            lines.append({"kind": "swap", "at": event["at"], "key": detail["key"], "text": event["text"],
                          "gained": event["gained"]})  # fmt: skip
        else:
            lines.append(
                {"kind": "state", "at": event["at"], "state": event["name"], "reason": event["text"]}
            )
    for phase in ("quiet", "during", "after"):
        lines += [{"kind": "run", "phase": phase, **r} for r in found[phase]]
    return lines


def quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")


def summary(name: str, found: dict[str, Any]) -> str:
    """What a reader wants first."""
    status = found["status"]
    trials = [e["detail"] for e in found["events"] if e["kind"] == "trial" and "emitMs" in e["detail"]]
    phases = {p: [r["ms"] for r in found[p]] for p in ("quiet", "during", "after")}
    lines = [
        f"{name}: {status['candidates']} candidates in {status['spentMs'] / 1e3:.1f} s, {status['kept']} kept, "
        f"{status['dropped']} dropped; kernels x{status['speedup']:.3f}; {status['state']}: {status['reason']}",
        f"  in the engine {status['testedMs']:.0f} ms, inferences waited {status['delayedMs']:.0f} ms in all",
    ]
    if trials:
        emit, compiled = [t["emitMs"] for t in trials], [t["compileMs"] for t in trials if t["compileMs"]]
        lines.append(
            f"  a candidate: emission {median(emit):.1f} ms, compile {median(compiled or [0.0]):.2f} ms (medians)"
        )
    for phase, times in phases.items():
        if times:
            high = f"p95 {quantile(times, 0.95):.2f}  p99 {quantile(times, 0.99):.2f} ms"
            lines.append(f"  {phase:6s} {len(times):4d} runs: p50 {median(times):.2f}  {high}")
    lines += [f"  warned: {text}" for text in found["warnings"]]
    return "\n".join(lines)


def plot(name: str, found: dict[str, Any]) -> str:
    """Candidates over time (ratio to the serving kernel), swaps, and each inference's latency."""
    events, status = found["events"], found["status"]
    end = max([1.0, *(e["at"] for e in events)])
    wide, tall = 900, 240
    marks = []

    def x(at: float) -> float:
        return 50 + (wide - 70) * at / end

    def y(ratio: float) -> float:
        return 30 + (tall - 60) * (min(max(ratio, 0.5), 1.75) - 0.5) / 1.25

    gained = [(0.0, 1.0)]
    for e in events:
        if e["kind"] == "trial":
            ratio = e["ratio"] or 1.75
            colour = COLOURS["faster"] if 0 < e["ratio"] < 1 else COLOURS.get(e["verdict"], "#b3261e")
            marks.append(f'<circle cx="{x(e["at"]):.1f}" cy="{y(ratio):.1f}" r="2.5" fill="{colour}"/>')
        elif e["kind"] == "swap":
            gained.append((e["at"], 1 / e["gained"]))
            at, high = f"{x(e['at']):.1f}", f"{y(1 / e['gained']):.1f}"
            marks.append(
                f'<circle cx="{at}" cy="{high}" r="5" fill="none" stroke="#0b6b63" stroke-width="2"/>'
            )
    line = (
        f"M{x(0):.1f},{y(1):.1f}"
        + "".join(f"H{x(at):.1f}V{y(r):.1f}" for at, r in gained[1:])
        + f"H{x(end):.1f}"
    )
    title = (f"{name}: {status['candidates']} candidates, {status['kept']} kept, kernels x{status['speedup']:.3f}, "
             f"{end / 1e3:.1f} s")  # fmt: skip
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" font-family="sans-serif" font-size="12">'
        f'<rect width="{wide}" height="{tall}" fill="white"/><text x="50" y="18">{title}</text>'
        f'<line x1="50" x2="{wide - 20}" y1="{y(1):.1f}" y2="{y(1):.1f}" stroke="#888" stroke-dasharray="4 4"/>'
        f'<text x="8" y="{y(1) + 4:.1f}">1.0</text><text x="8" y="{y(0.5) + 4:.1f}">0.5</text>'
        f'<text x="8" y="{y(1.75) + 4:.1f}">1.75</text>'
        f'<path d="{line}" fill="none" stroke="#1d1c1a" stroke-width="1.5"/>{"".join(marks)}'
        f'<text x="50" y="{tall - 8}">time of tuning; a dot is a candidate (time over the serving kernel\'s), a ring a '
        f"swap, the line the kernels together</text></svg>\n"
    )


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
