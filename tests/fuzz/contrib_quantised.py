"""Quantised, fused and small operators of com.microsoft, drawn at random and judged by native onnxruntime.

    PYTHONPATH=py python -m tests.fuzz.contrib_quantised [--op QLinearAdd] [--seeds 0:100]

The cases are those of tests/unit/lower/test_contrib_quantised.py and test_contrib_fused.py, which run a few of them.
Prints each fault; ends with 1 if there was one.
"""

from __future__ import annotations

import argparse
import sys

from tests.unit.lower import test_contrib_fused, test_contrib_quantised


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--op", help="one operator only")
    parser.add_argument("--seeds", default="0:100", help="from : to")
    options = parser.parse_args()
    first, last = (int(n) for n in options.seeds.split(":"))
    faults = 0
    for module in (test_contrib_quantised, test_contrib_fused):
        for op in module.MAKERS:
            if options.op not in (None, op):
                continue
            for seed in range(first, last):
                try:
                    module.check(op, seed)
                except Exception as fault:
                    faults += 1
                    print(f"{op} {seed}: {type(fault).__name__}: {str(fault).strip()[:300]}")
            print(f"{op}: {last - first} cases", flush=True)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
