"""grouped(spec, schedule): the loop nest of a product for workgroups, its sums in registers or in subgroup matrices."""

from __future__ import annotations

from nnjit.codegen.loops import Nest
from nnjit.codegen.schedule.half_sums import HalfSumProduct
from nnjit.codegen.schedule.matrices import MatrixProduct
from nnjit.codegen.schedule.pack import packed_spec
from nnjit.codegen.schedule.steps import Schedule, check
from nnjit.codegen.schedule.words import worded
from nnjit.codegen.schedule.workgroup import Product
from nnjit.codegen.schedule.workgroup_plan import Plan
from nnjit.codegen.spec import KernelSpec


def grouped(spec: KernelSpec, schedule: Schedule) -> Nest:
    """The nest of a product under a schedule of workgroups; ScheduleError where they do not fit."""
    plan = Plan.of(schedule)
    for pack in plan.packs:
        spec = packed_spec(spec, pack, plan.tile.get(pack.axis, 1))
    if plan.words:
        spec = worded(spec, plan.words)
    if plan.matrix is not None and plan.half_sums is not None:
        return HalfSumProduct(spec, plan, plan.matrix, plan.half_sums.elements).nest()
    check(plan.half_sums is None, "sums of f16 are those of matrices")
    if plan.matrix is not None:
        return MatrixProduct(spec, plan, plan.matrix).nest()
    return Product(spec, plan).nest()
