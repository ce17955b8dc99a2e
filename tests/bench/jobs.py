"""What the bench's page is given: a bundle of feeds and expected outputs for each operator or model, on the server.

A job's URL is what bench.js takes; `chosen` says which of them the command line asks for.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from tests.bench.operators.op import Op
from tests.bench.operators.ops import all_ops
from tests.models import catalogue
from tests.support.browser import Lab
from tests.support.codec import Packer, bundle

BYTES_SLACK = 0.05
"""Of the largest output, by which a quantised model's may differ from native onnxruntime's."""


def pack(
    job: dict[str, Any],
    op_inputs: dict[str, Any],
    weights: dict[str, Any],
    expected: dict[str, Any],
    second: dict[str, Any] | None = None,
) -> bytes:
    """The bundle of a job; `second` are feeds of another shape, to see what a further plan costs."""
    packer = Packer()
    head = {
        "job": {
            **job,
            "inputs": {n: packer.add(v) for n, v in op_inputs.items()},
            "weights": {n: packer.add(v) for n, v in weights.items()},
            "second": {n: packer.add(v) for n, v in second.items()} if second else None,
            "outputs": list(expected),
        },
        "expected": {n: packer.add(np.asarray(v, np.float32)) for n, v in expected.items()},
    }
    return bundle(head, packer.blob)


def op_job(lab: Lab, op: Op, number: int) -> str:
    """Puts an operator's model and bundle on the server; the bundle's URL."""
    path = catalogue.CACHE / "ops" / f"{number}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(op.model)
    expected = catalogue.native(path, op.feeds)
    url = lab.site.put(f"bench/{number}.onnx", op.model)
    job = {"name": op.name, "kind": op.kind, "url": url, "attrs": op.attrs}
    return lab.site.put(f"bench/{number}.bin", pack(job, op.feeds, op.weights, expected))


def model_job(lab: Lab, model: catalogue.Model, shape: int) -> str:
    path = model.path()
    folder = lab.site.mount(f"m/{model.name}", path.parent)
    # where a byte rounds the other way, all that follows differs by a little: ties of f32 chains are no error
    slack = BYTES_SLACK if model.bytes_of else 0
    job = {
        "name": model.label(shape),
        "kind": "model",
        "url": folder + path.name,
        "attrs": {},
        "slack": slack,
    }
    data = pack(job, model.feeds(shape), {}, model.expected(shape), model.feeds((shape + 1) % 3))
    return lab.site.put(f"bench/{model.name}-{shape}.bin", data)


def chosen(args: argparse.Namespace) -> list[tuple[str, Op | catalogue.Model, int]]:
    """(name, what, shape) of everything to measure; operators and all models when neither is asked for."""
    both = args.models is None and args.ops is None
    jobs: list[tuple[str, Op | catalogue.Model, int]] = []
    if both or args.ops is not None:
        jobs += [
            (name, op, 0) for name, op in all_ops().items() if (args.ops or "") in name or args.ops == op.kind
        ]
    if both or args.models is not None:
        groups = {"small": catalogue.SMALL, "all": list(catalogue.MODELS)}
        names = groups.get(args.models or "all") or args.models.split(",")
        known = catalogue.MODELS | catalogue.BYTES
        unknown = [n for n in names if n not in known]
        if unknown:
            raise SystemExit(f"no model {unknown[0]!r}; there are {', '.join(known)}")
        for model in (known[n] for n in names):
            shapes = range(len(model.shapes)) if args.shapes else range(1)
            jobs += [(model.label(shape), model, shape) for shape in shapes]
    return jobs
