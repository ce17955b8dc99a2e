"""Kernels and models that the WebGPU bench makes for itself: products, rows by a matrix of few bits, copies, attention.

Each takes sizes and a type and returns a KernelSpec, a shader's record (as `Shader.to_js` has it) or a model's bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from math import inf
from typing import Any

from onnx import TensorProto, helper

from nnjit.codegen.expr import Expr, Index, acc, axis, cast, const, load, op
from nnjit.codegen.schedule.canonical import canonical
from nnjit.codegen.schedule.gpu_products import in_matrices, products
from nnjit.codegen.schedule.gpu_roles import roles
from nnjit.codegen.schedule.gpu_rules import gpu_schedule
from nnjit.codegen.schedule.matrix_tiles import STAGES, configuration, microseconds
from nnjit.codegen.schedule.product_tiles import Shape
from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.codegen.wgsl.target import WgslTarget

BLOCK = 32
"""Weights of a few bits that share a scale."""


def product_spec(
    m: int, k: int, n: int, dtype: str = "f32", right: str = "kn", constant: bool = False
) -> KernelSpec:
    """c[m, n] = sum over k of a[m, k] * b[k, n], or b[n, k]; sums in f32, of i8 in i32."""
    wide = "i32" if dtype == "i8" else "f32"
    result = wide if dtype == "i8" else dtype
    at = Index(0, {"k": n, "n": 1} if right == "kn" else {"n": k, "k": 1})
    a, b = load(0, Index(0, {"m": k, "k": 1}), dtype), load(1, at, dtype)
    body = op("mul", cast(a, wide), cast(b, wide))
    out = Index(0, {"m": n, "n": 1})
    stage = Stage((), (Axis("k", k),), "sum", body, cast(acc(wide), result), 2, out)
    operands = (
        Operand(dtype, m * k, "in"),
        Operand(dtype, k * n, "in", constant),
        Operand(result, m * n, "out"),
    )
    return canonical(KernelSpec(f"{dtype}_product", (Axis("m", m), Axis("n", n)), (stage,), operands))


def bits_spec(k: int, n: int, bits: int) -> KernelSpec:
    """y[n] = sum over k of a[k] * (code[n, k] - middle) * scale[n, k / 32], codes in words as MatMulNBits has them."""
    each, middle = 32 // bits, 1 << (bits - 1)
    words = BLOCK // each
    word = load(1, Index(0, {"n": k // each, "block": words, "word": 1}), "i32")
    shifted = Expr("shr", "i32", (word, axis(Index(0, {"bit": bits}))))
    code = cast(op("band", shifted, const((1 << bits) - 1, "i32")), "f32")
    scale = load(2, Index(0, {"n": k // BLOCK, "block": 1}), "f32")
    right = Expr("fma", "f32", (code, scale, op("mul", const(-float(middle), "f32"), scale)))
    left = load(0, Index(0, {"block": BLOCK, "word": each, "bit": 1}), "f32")
    reduce = (Axis("block", k // BLOCK), Axis("word", words), Axis("bit", each))
    stage = Stage((), reduce, "sum", op("mul", left, right), acc("f32"), 3, Index.of("n"))
    operands = (
        Operand("f32", k, "in"), Operand("i32", n * k // each, "in", True),
        Operand("f32", n * (k // BLOCK), "in", True), Operand("f32", n, "out"),
    )  # fmt: skip
    return KernelSpec(f"product_{bits}bits", (Axis("n", n),), (stage,), operands)


def copy_spec(size: int) -> KernelSpec:
    at = Index.of("i")
    stage = Stage((), (), "", None, load(0, at, "f32"), 1, at)
    return KernelSpec(
        "copy", (Axis("i", size),), (stage,), (Operand("f32", size, "in"), Operand("f32", size, "out"))
    )


def read_shader(nbytes: int, threads: int = 128, each: int = 10) -> dict[str, Any]:
    """Reads about so many bytes and does next to nothing with them: a word of the result would be written if all that a
    thread has read came to one number in four billion. What no kernel over as many bytes can be faster than."""
    groups = max(1, nbytes // 16 // threads // each)
    loads = "\n".join(f"  x ^= in0[at + {i * threads}u];" for i in range(each))
    wgsl = f"""@group(0) @binding(0) var<storage, read> in0: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> out1: array<u32>;
@compute @workgroup_size({threads})
fn kernel(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {{
  let at = group.x * {threads * each}u + local;
  var x = vec4u(0u);
{loads}
  let y = x.x ^ x.y ^ x.z ^ x.w;
  if (y == 0x5eed1234u) {{ out1[0] = y; }}
}}"""
    size = groups * threads * each * 4
    bindings = [
        {"binding": 0, "dtype": "i32", "role": "in", "size": size, "nbytes": 4 * size},
        {"binding": 1, "dtype": "i32", "role": "out", "size": 4, "nbytes": 16},
    ]
    return {"name": "read", "wgsl": wgsl, "entryPoint": "kernel", "workgroupSize": threads,
            "dispatch": [groups, 1, 1], "bindings": bindings}  # fmt: skip


def candidates(spec: KernelSpec, target: WgslTarget, most: int) -> Iterator[Schedule]:
    """The default first, then others, each once."""
    seen = {gpu_schedule(spec, target)}
    yield from seen
    for schedule in islice(products(spec, target), most + 1):
        if schedule not in seen:
            seen.add(schedule)
            yield schedule


def half_sum_candidates(spec: KernelSpec, target: WgslTarget, most: int) -> Iterator[Schedule]:
    """Schedules in subgroup matrices whose sums are f16 for 32, 64 or 128 elements, `most` at most, best guess first;
    none where the adapter lists no such matrices."""
    p, allowed = roles(spec), replace(target, half_sums=True)
    if p is None or configuration("f16", allowed) is None:
        return
    size = p.m, p.k, p.column.extent, p.batches
    found = [
        (microseconds(tile, *size, "f16", allowed, stretch), n, tile, stretch)
        for n, tile in enumerate(STAGES)
        for stretch in (32, 64, 128)
        if stretch % tile.depth == 0 and (stretch == 32 or stretch < 2 * p.k)
    ]
    for us, _, t, stretch in islice(sorted(found, key=lambda x: x[:2]), most):
        shape = Shape(t.rows, t.down, t.columns, t.across, t.depth)
        if us < inf:
            yield in_matrices(spec, p, shape, allowed, "f16", stretch)


def attention_model(heads: int, length: int, depth: int, dtype: str) -> bytes:
    """softmax(q k' / sqrt(d)) v over [1, heads, length, depth]."""
    node, kind = helper.make_node, TensorProto.FLOAT16 if dtype == "f16" else TensorProto.FLOAT
    nodes = [
        node("Transpose", ["k"], ["kt"], perm=[0, 1, 3, 2]), node("MatMul", ["q", "kt"], ["s"]),
        node("Mul", ["s", "root"], ["t"]),
        node("Softmax", ["t"], ["p"]), node("MatMul", ["p", "v"], ["y"]),
    ]  # fmt: skip
    shape = [1, heads, length, depth]
    info = [helper.make_tensor_value_info(n, kind, shape) for n in "qkvy"]
    root = helper.make_tensor("root", kind, [], [depth**-0.5])
    graph = helper.make_graph(nodes, "attention", info[:3], info[3:], [root])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data
