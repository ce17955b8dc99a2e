"""Random operators of com.microsoft against native onnxruntime.

    PYTHONPATH=py python -m tests.fuzz.contrib [--op MultiHeadAttention] [--seeds 0:100]

Prints each fault; ends with 1 if there was one.
"""

from __future__ import annotations

import argparse
import sys

from nnjit.runtime.local import LocalSession
from tests.support.single import native

from . import CASES, draw
from .drawn import fault


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.contrib", description=__doc__)
    parser.add_argument("--op", choices=sorted(CASES))
    parser.add_argument("--seeds", default="0:50", help="first:last")
    options = parser.parse_args()
    first, _, last = options.seeds.partition(":")
    faults = 0
    for name in [options.op] if options.op else CASES:
        ran = refused = 0
        for seed in range(int(first), int(last or int(first) + 1)):
            case = draw(name, seed)
            try:
                wanted = native(case.model(), case.feeds)
            except Exception as error:
                refused += 1
                print(f"--- {name} {seed}: onnxruntime: {str(error)[:300]}")
                continue
            ran += 1
            try:
                session = LocalSession(case.model())
                why = fault(case, session.run(case.feeds), wanted)
                slow = [r["op"] for r in session.placement() if r["backend"] == "reference"]
                why = why or (f"{slow} on the reference" if slow else None)
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
            if why:
                faults += 1
                shapes = {k: None if v is None else f"{v.dtype}{v.shape}" for k, v in case.operands.items()}
                print(f"--- {name} {seed}: {why}\n    {case.attrs} {shapes}", flush=True)
        print(f"{name}: {ran} cases, {refused} that onnxruntime refuses")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
