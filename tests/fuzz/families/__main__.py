"""All families against native onnxruntime:

    PYTHONPATH=py python -m tests.fuzz.families [--only vit,swin] [--quantised] [--halves]

A line each: right or not, the largest difference, operators without a kernel. Ends with 1 if one was wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.fuzz.families import FAMILIES
from tests.fuzz.families.judge import judge


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.families", description=__doc__)
    parser.add_argument("--only", default="", help="names or their beginnings, by commas")
    options = parser.parse_args()
    wanted = [w for w in options.only.split(",") if w]
    wrong = 0
    for name, build in FAMILIES.items():
        if wanted and not any(name.startswith(w) for w in wanted):
            continue
        begin = time.monotonic()
        try:
            verdict = judge(build())
        except Exception:
            wrong += 1
            print(f"{name:28} RAISES {traceback.format_exc(limit=-4)}", flush=True)
            continue
        wrong += bool(verdict.faults)
        text = "; ".join(verdict.faults) or "right"
        slow = f"  on the reference: {', '.join(dict.fromkeys(verdict.slow))}" if verdict.slow else ""
        print(f"{name:28} {text} ({verdict.apart:.1e}, {time.monotonic() - begin:.1f} s){slow}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
