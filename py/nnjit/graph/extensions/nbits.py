"""com.microsoft.MatMulNBits: Y = A · dequantised(B)', weights of 2, 4 or 8 bits in blocks along K. It has a kernel."""

from __future__ import annotations

from ..ir import Node
from ..shape_rules import fail, given, put, rule
from .declare import FLOATS, MICROSOFT, declare

declare(
    "MatMulNBits",
    "A:T1 B:T2 scales:T1 zero_points:T3? g_idx:T4? bias:T1?",
    "Y:T1",
    "K:int! N:int! bits:int=4 block_size:int! accuracy_level:int=0 weight_prepacked:int=0",
    T1=FLOATS,
    T2="u8",
    T3=f"u8 {FLOATS}",
    T4="i32",
)


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
