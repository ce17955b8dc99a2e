"""Steps of models' plans for a GPU by kind, with and without merged products: counted from plans that CPython makes for
an H200's facts; no GPU takes part.

    PYTHONPATH=py python -m tests.bench.gpu.kinds                       the tables of docs/wgsl.md
    PYTHONPATH=py python -m tests.bench.gpu.kinds gpt2 --batch 1 --names     each kind's kernels, too
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from dataclasses import replace

from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.frontend import BytesSource, load
from nnjit.runtime.gpu_plan import GpuPlan
from nnjit.runtime.prepared import Options
from nnjit.runtime.session import CompilerSession
from tests.bench.compiling import H200, MODELS
from tests.models import catalogue

KINDS = {
    "with a norm": r"_of_sums$",
    "sums of parts": r"_sum$",
    "norms": r"normalization$",
    "attention": r"attention",
    "products": r"matmul|gemm|conv|depthwise",
    "the rest": r"",
}
"""The first whose pattern a kernel's name has."""
SHOWN = ("products", "sums of parts", "with a norm", "norms", "attention", "the rest")


def names(model: str, batch: int, merge: bool) -> list[str]:
    """Of the kernels that a run of the plan takes, in order; merge: as `mergeProducts` says."""
    of = catalogue.MODELS[model]
    feeds = of.make(batch, *of.shapes[0][1:], seed=1000)
    target = replace(WgslTarget.read(H200), merge=merge)
    session = CompilerSession(
        load(BytesSource(of.path().read_bytes(), of.path().name), {}), Options("webgpu", gpu=target)
    )
    plan = session.prepare({n: a.shape for n, a in feeds.items()}, {})[0].plan
    assert isinstance(plan, GpuPlan)
    return [step.name for step in plan.steps]


def kind_of(kernel: str) -> str:
    return next(kind for kind, pattern in KINDS.items() if re.search(pattern, kernel))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.bench.gpu.kinds", description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS, help="default %(default)s")
    parser.add_argument("--batch", default="1,8", help="batch sizes; default %(default)s")
    parser.add_argument("--names", action="store_true", help="each kind's kernels, too")
    args = parser.parse_args(argv)
    head = ["model", "not merged", "merged", *SHOWN]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for model in args.models:
        for batch in map(int, args.batch.split(",")):
            apart, merged = names(model, batch, merge=False), names(model, batch, merge=True)
            counts = Counter(map(kind_of, merged))
            cells = [len(apart), len(merged), *(counts[kind] for kind in SHOWN)]
            print(f"| {model} x{batch} | {' | '.join(map(str, cells))} |", flush=True)
            for kind in SHOWN if args.names else ():
                found = Counter(kernel for kernel in merged if kind_of(kernel) == kind)
                print(f"  {kind}: {', '.join(f'{n} {kernel}' for kernel, n in found.items())}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
