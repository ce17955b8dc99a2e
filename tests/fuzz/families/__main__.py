"""All families against native onnxruntime:

    PYTHONPATH=py python -m tests.fuzz.families [--only vit,swin] [--as f32|f16|qdq|qdq-s8|dynamic] [--list]

A line each: right or not, the largest difference, operators without a kernel. Ends with 1 if one was wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings

from tests.fuzz.families import FAMILIES
from tests.fuzz.families.judge import BYTE, HALF, SINGLE, judge
from tests.fuzz.families.net import Net
from tests.fuzz.families.variants import dynamically_quantised, halved, quantised
from tests.support.single import native

FORMS = ("f32", "f16", "qdq", "qdq-s8", "dynamic")


def made(net: Net, form: str) -> tuple[bytes, float]:
    """The model in a form, and how far it may be off."""
    model = net.bytes()
    if form == "f32":
        return model, HALF if net.dtype == "float16" else SINGLE
    if form == "f16":
        return halved(model), HALF
    if form == "dynamic":
        return dynamically_quantised(model), BYTE
    per_channel = form == "qdq" and net.opset >= 13  # before, DequantizeLinear has no axis
    return quantised(model, net.feeds, "QUInt8" if form == "qdq" else "QInt8", per_channel), BYTE


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.families", description=__doc__)
    parser.add_argument("--only", default="", help="names or their beginnings, by commas")
    parser.add_argument("--as", dest="form", default="f32", choices=FORMS)
    parser.add_argument("--list", action="store_true", help="names only")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    wanted = [w for w in options.only.split(",") if w]
    wrong = 0
    for name, build in FAMILIES.items():
        if wanted and not any(name.startswith(w) for w in wanted):
            continue
        if options.list:
            print(name)
            continue
        begin = time.monotonic()
        net = build()
        if options.form != "f32" and net.dtype != "float32":
            continue
        try:
            model, share = made(net, options.form)
            native(model, net.feeds)
        except Exception as error:  # onnxruntime's tools do not take every model, nor it what they made
            print(f"{name:28} not made: {type(error).__name__}: {str(error)[:100]}", flush=True)
            continue
        try:
            verdict = judge(model, net.feeds, share)
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
