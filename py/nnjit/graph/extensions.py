"""Operators of other domains than ONNX's own that are understood: their schemas and shape rules.

com.microsoft.MatMulNBits: Y = A · dequantised(B)', weights of 4 or 8 bits in blocks along K
"""

from __future__ import annotations

from typing import Any

from onnx.defs import OpSchema

from .ir import Node
from .shape_rules import fail, given, put, rule

MICROSOFT = "com.microsoft"
_FLOATS = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]
_OPTIONAL = OpSchema.FormalParameterOption.Optional


def _formal(name: str, kind: str, optional: bool = False) -> Any:
    if optional:
        return OpSchema.FormalParameter(name, kind, param_option=_OPTIONAL)
    return OpSchema.FormalParameter(name, kind)


def _int(name: str, required: bool = False) -> Any:
    return OpSchema.Attribute(name, OpSchema.AttrType.INT, "", required=required)


# As onnxruntime declares it (docs/ContribOperators.md there).
_MATMUL_NBITS = OpSchema(
    "MatMulNBits", MICROSOFT, 1, "",
    inputs=[
        _formal("A", "T1"), _formal("B", "T2"), _formal("scales", "T1"), _formal("zero_points", "T3", True),
        _formal("g_idx", "T4", True), _formal("bias", "T1", True),
    ],
    outputs=[_formal("Y", "T1")],
    type_constraints=[
        ("T1", _FLOATS, ""), ("T2", ["tensor(uint8)"], ""), ("T3", ["tensor(uint8)", *_FLOATS], ""),
        ("T4", ["tensor(int32)"], ""),
    ],
    attributes=[_int("K", True), _int("N", True), _int("bits"), _int("block_size", True), _int("accuracy_level"),
                _int("weight_prepacked")],
)  # fmt: skip

SCHEMAS: dict[tuple[str, str], Any] = {(MICROSOFT, "MatMulNBits"): _MATMUL_NBITS}
"""(domain, operator) -> OpSchema, the same at every version."""


@rule(f"{MICROSOFT}.MatMulNBits")
def matmul_nbits(node: Node) -> None:
    a, b, attrs = given(node), given(node, 1), node.attrs
    k, n, bits, block = attrs["K"], attrs["N"], attrs.get("bits", 4), attrs["block_size"]
    if bits not in (2, 4, 8) or block < 16 or block & (block - 1):
        fail(node, f"weights of {bits} bits in blocks of {block}", "2, 4 or 8 bits; a power of 2 from 16 on")
    blocks = -(-k // block)
    if b.size is not None and b.size != n * blocks * block * bits // 8:
        fail(node, "its weights do not fill N rows of blocks", [n, blocks, block * bits // 8], b.shape)
    if a.shape is not None and a.shape[-1:] != (k,):
        fail(node, "the rows of A are not K long", k, a.shape)
    put(node, a.dtype, None if a.shape is None else (*a.shape[:-1], n))
