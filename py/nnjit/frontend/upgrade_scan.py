"""Scan of opset 8, which had a batch axis, as two Scans of opset 9, which has none."""

from __future__ import annotations

import onnx

from ..graph import protos, schemas
from ..graph.ir import Value
from .draft import Draft


def nest_scan(draft: Draft) -> None:
    """Scan-8(lens?, states, xs), states [B,…] and xs [B,T,…] → Scan over B of Scan over T."""
    if draft.input(0) is not None:
        draft.refuse("sequence_lens are not supported")
    body: onnx.GraphProto = draft.attrs.pop("body")
    count = draft.attrs.pop("num_scan_inputs")
    inner = {"body": body, "num_scan_inputs": count}
    directions = draft.attrs.pop("directions", None)
    if directions:
        inner["scan_input_directions"] = directions
    given: list[Value] = [draft.x(i) for i in range(1, len(draft.inputs))]
    ins = [draft.fresh(f"{body.name}.in{i}") for i in range(len(given))]
    outs = [draft.fresh(f"{body.name}.out{i}") for i in range(len(draft.outputs))]
    scan = protos.make_node("Scan", "", schemas.NEWEST, ins, outs, inner)
    sample = onnx.GraphProto(name=draft.fresh(f"{body.name}.sample"), node=[scan])
    sample.input.extend(onnx.ValueInfoProto(name=name) for name in ins)
    sample.output.extend(onnx.ValueInfoProto(name=name) for name in outs)
    draft.inputs = list(given)
    draft.attrs = {"body": sample, "num_scan_inputs": len(given)}
