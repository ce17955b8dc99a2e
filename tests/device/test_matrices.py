"""Products in subgroup matrices on an adapter that lists some, beside exact sums: tiles of any shape in matrices of
the adapter's size, tails of rows, columns and depth, sums of f32, f16 and i32. Of whole numbers: nothing is rounded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.gpu_products import in_matrices, in_words
from nnjit.codegen.schedule.gpu_roles import roles
from nnjit.codegen.schedule.group_steps import Cache
from nnjit.codegen.schedule.matrix_tiles import MatrixTile, configuration
from nnjit.codegen.schedule.product_tiles import Shape
from nnjit.codegen.schedule.steps import Schedule, describe
from nnjit.codegen.wgsl.target import WgslTarget, listed_matrices
from tests.browser.api_page import Api
from tests.browser.wgsl_page import runner
from tests.device.running import on_device
from tests.support import shaders, specs
from tests.support.schedules import agree

RNG = np.random.default_rng(41)
TILES = [(1, 1, 1, 1, 1), (2, 1, 1, 2, 2), (1, 2, 2, 1, 1), (1, 2, 4, 1, 2)]
"""Matrices of a subgroup and subgroups, down and then across; matrices in the depth of a stage."""


def caching(schedule: Schedule, **how: bool) -> Schedule:
    """The same with stages that are filled otherwise."""
    return tuple(replace(s, **how) if isinstance(s, Cache) else s for s in schedule)


@pytest.mark.parametrize("sums", ["f32", "f16", "i32"])
def test_tiles(gpu: Api, facts: dict[str, Any], target: WgslTarget, sums: str) -> None:
    """Also of a software adapter, where no rule takes them."""
    allowed = replace(target, half_sums=True, matrices=listed_matrices(facts))
    size = configuration(sums, allowed)
    if size is None:
        pytest.skip(f"the adapter lists no subgroup matrices with sums of {sums}")
    shaders.take_device(gpu.page)
    run = runner(gpu.page)
    rows, columns, deep = size
    ran = 0
    for number, (tall, down, wide, across, stages) in enumerate(TILES):
        depth = max(16, deep) * stages
        tile = MatrixTile(
            rows * tall * down, down, columns * wide * across, across, depth // 2 if sums == "i32" else depth
        )
        if not tile.fits(size, target.subgroup, sums):
            continue  # few small matrices on a large subgroup
        shape = Shape(tile.rows, down, tile.columns, across, tile.depth)
        for m, k, n in (
            (tile.rows, 2 * depth, tile.columns),
            (tile.rows + 1, 5 * depth - 3, tile.columns - 3),
        ):
            made = (
                specs.bytes_matmul(RNG, m, n, k, True)
                if sums == "i32"
                else specs.matmul(RNG, m, n, k, "f16", bias=True)
            )
            spec = canonical(made[0])
            p = roles(spec)
            assert p is not None
            schedule = (
                in_words(spec, p, shape, allowed)
                if sums == "i32"
                else in_matrices(spec, p, shape, allowed, sums, 2 * depth if number % 2 else depth)
            )
            schedule = caching(schedule, ahead=bool(number % 2), twice=number == 3 and sums != "f16")
            found = run(spec, schedule, made[1], allowed)
            agree(found, specs.evaluate(*made), 0.0, f"{m}x{k}x{n} {describe(schedule)}", spec)
            ran += 1
    assert ran >= 4


@pytest.mark.parametrize("sums", ["f32", "f16"])
def test_a_model_of_f16(gpu: Api, sums: str) -> None:
    """By the rules, whatever the adapter has: two layers with a bias, longer than any stretch."""
    a, b, c = (RNG.integers(-2, 3, s).astype(np.float16) for s in ((37, 300), (300, 72), (72, 44)))
    nodes = [
        helper.make_node("MatMul", ["x", "b"], ["p"]),
        helper.make_node("Clip", ["p", "low", "high"], ["q"]),
        helper.make_node("MatMul", ["q", "c"], ["r"]),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    half = TensorProto.FLOAT16
    consts = {"b": b, "c": c, "low": np.float16(-8), "high": np.float16(9)}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", half, a.shape)],
        [helper.make_tensor_value_info("y", half, [37, 44])],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in consts.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    ran = on_device(gpu, made.SerializeToString(), {"x": a}, matrixSums=sums)
    assert ran.backend == "webgpu" and not ran.elsewhere
    inner = np.clip(a.astype(np.float64) @ b, -8, 9)
    np.testing.assert_array_equal(ran.outputs["y"], np.maximum(inner @ c, 0).astype(np.float16))
