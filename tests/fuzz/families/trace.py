"""Where a quantised family leaves onnxruntime's answer (without graph optimizations): the first byte that differs.

    PYTHONPATH=py python -m tests.fuzz.families.trace deeplab [--as qdq|qdq-s8]

Prints the node, and the number that was rounded there, in steps of the byte, as both computed it: at a tie they lie on
either side of a half, a rounding of f32 apart.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.fuzz.families import FAMILIES
from tests.fuzz.families.__main__ import made
from tests.fuzz.families.judge import on_wasm
from tests.support.single import native


def shown(model: onnx.ModelProto, names: Sequence[str]) -> bytes:
    """The model with more outputs."""
    wider = onnx.ModelProto()
    wider.CopyFrom(model)
    have = {o.name for o in wider.graph.output}
    wider.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in names if n not in have)
    data: bytes = wider.SerializeToString()
    return data


def both(model: onnx.ModelProto, names: Sequence[str], feeds: dict[str, Any]) -> tuple[Any, Any]:
    """These values as onnxruntime and as nnjit compute them."""
    data = shown(model, names)
    return native(data, feeds, optimised=False), on_wasm(data, feeds)[0]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.families.trace", description=__doc__)
    parser.add_argument("family", choices=list(FAMILIES))
    parser.add_argument("--as", dest="form", default="qdq", choices=("qdq", "qdq-s8"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    net = FAMILIES[options.family]()
    model = onnx.load_from_string(made(net, options.form)[0])
    held = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    makers = {o: n for n in model.graph.node for o in n.output}
    rounded = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    theirs, ours = both(model, [n.output[0] for n in rounded], net.feeds)
    for node in rounded:
        a, b = theirs[node.output[0]], np.asarray(ours[node.output[0]])
        if (a == b).all():
            continue
        at = tuple(int(i) for i in np.argwhere(a != b)[0])
        before, after = both(model, [node.input[0]], net.feeds)
        step = held[node.input[1]]
        steps = [float(v[node.input[0]][at]) / float(step) for v in (before, after)]
        maker = makers[node.input[0]]
        print(
            f"{maker.op_type} {maker.name}: {int((a != b).sum())} of {a.size} bytes differ, first {list(at)}"
        )
        print(f"  onnxruntime {steps[0]:.9g} steps, byte {a[at]}; nnjit {steps[1]:.9g} steps, byte {b[at]}")
        return 1
    print("no byte differs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
