"""Random models against onnx.reference and onnxruntime:

    PYTHONPATH=py python -m tests.fuzz [--area mixed] [--seeds 0:500] [--extremes] [--seconds 60]

Prints each fault with its smallest case; ends with 1 if there was one.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter

from tests.fuzz.areas import AREAS, draw
from tests.fuzz.judge import judge
from tests.fuzz.shrink import shrink


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--area", default="mixed", choices=sorted(AREAS))
    parser.add_argument("--seeds", default="0:200", help="first:last, or one")
    parser.add_argument("--extremes", action="store_true", help="infinities, NaN, -0.0, the largest integers")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no case after so long")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    first, _, last = options.seeds.partition(":")
    start, faults, operators, ran = time.monotonic(), 0, Counter[str](), 0
    differ = Counter[str]()
    for seed in range(int(first), int(last or int(first) + 1)):
        if time.monotonic() - start > options.seconds:
            print(f"stopped before seed {seed}")
            break
        case = draw(options.area, seed, options.extremes)
        if not case.outputs:
            continue
        ran += 1
        operators.update(n.op_type for n in case.nodes)
        fault = judge(case)
        if fault is None:
            continue
        case, fault = shrink(case, judge, fault)
        if fault.peers_differ:
            differ[" ".join(n.op_type for n in case.nodes)] += 1
            continue
        faults += 1
        print(f"--- {options.area} {seed}: {fault.kind}: {fault.text}\n{case.text()}", flush=True)
    print(f"{ran} cases, {sum(operators.values())} nodes, {len(operators)} operators, {faults} faults")
    if differ:
        print("as onnxruntime, unlike onnx.reference:", dict(differ))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
