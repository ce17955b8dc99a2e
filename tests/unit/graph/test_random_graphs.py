"""Random graphs before and after all passes: every value stays what it was, and every shape is right."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.frontend import BytesSource, load
from nnjit.frontend.expand import expand
from nnjit.graph.reference import run_graph
from tests.unit.graph.tools import expect

UNARY = "Relu Sigmoid Tanh Neg Abs Identity Softplus Erf Softmax HardSigmoid Floor Gelu".split()
BINARY = "Add Sub Mul Max Min".split()


class Maker:
    """Adds one random node after another to a graph of f32 tensors."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {}

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op: str, inputs: list[str], shape: tuple[int, ...], **attrs: object) -> None:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attrs))
        self.shapes[name] = shape

    def step(self) -> None:
        c = self.chance
        x = c.choice(list(self.shapes)[-6:])
        shape = self.shapes[x]
        rank = len(shape)
        way = c.randrange(11)
        if way == 0:
            self.node(c.choice(UNARY if rank else UNARY[:8]), [x], shape)
        elif way == 1:
            other = c.choice([n for n, s in self.shapes.items() if s == shape])
            self.node(c.choice(BINARY), [x, other], shape)
        elif way == 2:  # a constant: neutral, a scalar, or one that broadcasts
            small = tuple(c.choice([1, d]) for d in shape)[c.randrange(rank + 1) :]
            values = c.choice(
                [np.zeros(small), np.ones(small), np.full(small, 0.5), self.numbers.standard_normal(small)]
            )
            pair = [x, self.constant(values.astype(np.float32))]
            self.node(c.choice(BINARY), pair if c.random() < 0.7 else pair[::-1], shape)
        elif way == 3:
            dims = list(shape)
            c.shuffle(dims)
            if c.random() < 0.5:
                dims.insert(c.randrange(len(dims) + 1), 1)
            self.node("Reshape", [x, self.constant(np.array(dims, np.int64))], tuple(dims))
        elif way == 4 and rank:
            perm = list(range(rank))
            c.shuffle(perm)
            self.node("Transpose", [x], tuple(shape[p] for p in perm), perm=perm)
        elif way == 5 and rank < 5:
            axis = c.randrange(rank + 1)
            self.node("Unsqueeze", [x, self.constant(np.array([axis]))], (*shape[:axis], 1, *shape[axis:]))
        elif way == 6 and rank:
            axis, keep = c.randrange(rank), c.randrange(2)
            op = c.choice(["ReduceSum", "ReduceMean", "ReduceMax"])
            kept = (*shape[:axis], *(1,) * keep, *shape[axis + 1 :])
            self.node(op, [x, self.constant(np.array([axis]))], kept, keepdims=keep)
        elif way == 7 and 1 in shape:
            wide = tuple(c.choice([2, 3]) if d == 1 and c.random() < 0.7 else d for d in shape)
            self.node("Expand", [x, self.constant(np.array(wide))], wide)
        elif way == 8 and rank:
            axis = c.randrange(rank)
            count = c.randint(1, shape[axis])
            first = c.randint(0, shape[axis] - count)
            indices = np.arange(first, first + count)
            if c.random() < 0.3:
                self.chance.shuffle(indices)  # type: ignore[arg-type]
            taken = (*shape[:axis], count, *shape[axis + 1 :])
            self.node("Gather", [x, self.constant(indices)], taken, axis=axis)
        elif way == 9 and rank:
            axis = c.randrange(rank)
            twice = (*shape[:axis], 2 * shape[axis], *shape[axis + 1 :])
            if np.prod(twice) < 400:
                self.node("Concat", [x, x], twice, axis=axis)
        elif way == 10:
            self.node("Cast", [x], shape, to=TensorProto.FLOAT)

    def model(self, steps: int) -> onnx.ModelProto:
        shape = tuple(self.chance.choice([1, 2, 3, 4]) for _ in range(self.chance.randint(1, 3)))
        self.shapes["x"] = shape
        for _ in range(steps):
            self.step()
        outs = [n for n in self.shapes if n != "x"][-1:] + self.chance.sample(list(self.shapes), 1)
        outs = list(dict.fromkeys(o for o in outs if o != "x")) or ["x"]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        outputs = [helper.make_tensor_value_info(o, TensorProto.FLOAT, self.shapes[o]) for o in outs]
        graph = helper.make_graph(self.nodes, "g", inputs, outputs, self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=9)


@pytest.mark.parametrize("block", range(20))
def test_passes_keep_random_graphs(block: int) -> None:
    for seed in range(block * 15, block * 15 + 15):
        maker = Maker(seed)
        model = maker.model(14)
        x = np.random.default_rng(seed).standard_normal(maker.shapes["x"]).astype(np.float32)
        wanted = expect(model, {"x": x})
        graph = load(BytesSource(model.SerializeToString())).bind()
        for stage in ("passes", "expanded"):
            if stage == "expanded":
                graph = expand(graph, lambda node: node.op == "Softmax")
            graph.check()
            found = run_graph(graph, {v.name: x for v in graph.inputs})
            for name, value, array in zip(graph.output_names, graph.outputs, wanted, strict=True):
                assert value.shape == array.shape, (
                    f"seed {seed}, {stage}: {value} is not {array.shape}\n{graph}"
                )
                np.testing.assert_allclose(
                    found[name], array, rtol=1e-4, atol=1e-5, err_msg=f"seed {seed}, {stage}\n{graph}"
                )
