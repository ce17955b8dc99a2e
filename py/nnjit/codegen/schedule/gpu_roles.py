"""What a product is to a GPU: which axes are rows, columns and batches, and what is true of its factors."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from nnjit.codegen.dtypes import WIDE
from nnjit.codegen.expr import Access, Expr
from nnjit.codegen.schedule.facts import narrow_types, reads, values
from nnjit.codegen.schedule.group_steps import HalfSums, Matrix, Words
from nnjit.codegen.schedule.matrix_tiles import LONGEST, configuration
from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import Axis, KernelSpec, Stage
from nnjit.codegen.wgsl.target import WgslTarget

FEW_ROWS = 4
"""Up to so many rows a product is bound by reading its other factor once: nothing is gained by shared arrays."""


@dataclass(frozen=True, slots=True)
class Product:
    """The roles of a product's axes. `left` follows the rows, `right` the columns; operands they read."""

    rows: tuple[Axis, ...]
    column: Axis
    batch: tuple[Axis, ...]
    reduce: tuple[Axis, ...]
    left: tuple[Access, ...]
    right: tuple[Access, ...]

    @property
    def m(self) -> int:
        return prod(a.extent for a in self.rows)

    @property
    def k(self) -> int:
        return prod(a.extent for a in self.reduce)

    @property
    def batches(self) -> int:
        return prod(a.extent for a in self.batch)


def roles(spec: KernelSpec) -> Product | None:
    """None where the spec is no product of two factors of which one follows the columns and the other the rows."""
    if len(spec.stages) != 1:
        return None
    s = spec.stages[0]
    if s.combine != "sum" or s.body is None or s.body.op != "mul" or s.axes or not in_lanes(spec, s):
        return None
    if s.body.dtype not in ("f32", "i32", "u32"):
        return None
    column = next((a for a in spec.axes if s.index.coeff(a.name) == 1), None)
    if column is None:
        return None
    factors = [e.axes() for e in s.body.args]
    follows = [column.name in f for f in factors]
    if follows[0] == follows[1]:
        return None
    left, right = (factors[1], factors[0]) if follows[0] else (factors[0], factors[1])
    e_left, e_right = (s.body.args[1], s.body.args[0]) if follows[0] else s.body.args
    rows = tuple(a for a in spec.axes if a.name in left and a.name not in right)
    batch = tuple(a for a in spec.axes if a is not column and a not in rows)
    return Product(rows, column, batch, s.reduce, tuple(reads(e_left)), tuple(reads(e_right)))


def _is_half(e: Expr) -> bool:
    """f32(load) of an f16."""
    return e.op == "cast" and e.args[0].op == "load" and e.args[0].dtype == "f16" and not e.args[0].attr.guard


def in_lanes(spec: KernelSpec, s: Stage) -> bool:
    """Whether a stage fits vectors of four: 64 bits are read there only for their low word."""
    if not narrow_types(spec, s) or (not s.keep and spec.operands[s.out].dtype in WIDE):
        return False
    for root in (s.body, s.result):
        for e in values(root) if root is not None else ():
            low = e.op == "cast" and e.dtype in ("i32", "u32")
            if not low and any(a.dtype in WIDE for a in e.args):
                return False
    return True


def lies_along(p: Product) -> bool:
    """Whether the left factor's neighbours in memory lie along the sum."""
    return all(r.index.coeff(p.reduce[-1].name) == 1 for r in p.left)


def matrices(body: Expr, target: WgslTarget) -> str:
    """What the device sums products of such factors up in, in subgroup matrices: "f32", "f16" where it has no other and
    may, or "" for no matrices."""
    if not all(_is_half(e) for e in body.args):
        return ""
    return next((sums for sums in ("f32", "f16") if configuration(sums, target)), "")


def half_summed(spec: KernelSpec, target: WgslTarget) -> int:
    """Elements that a kernel of the spec may sum up in f16 on the device; 0 for none."""
    body = spec.stages[0].body
    product = body is not None and body.op == "mul" and all(_is_half(e) for e in body.args)
    return LONGEST if product and configuration("f16", target) else 0


def usable(schedule: Schedule, target: WgslTarget) -> bool:
    """Whether the device has the matrices of a schedule from elsewhere (a record, another session), and may sum up as
    that does."""
    matrix = next((s for s in schedule if isinstance(s, Matrix)), None)
    if matrix is None:
        return True
    if any(isinstance(s, Words) for s in schedule):
        types = ("i8", "i32")
    elif any(isinstance(s, HalfSums) for s in schedule):
        types = ("f16", "f16")
    else:
        types = ("f16", "f32")
    allowed = target.half_sums or types != ("f16", "f16")
    size = matrix.rows, matrix.columns, matrix.depth
    return allowed and (*types, *size) in target.matrices and matrix.subgroup == target.subgroup
