"""Nest -> Shader: the text of a compute shader and all that a runner needs to dispatch it.

One invocation does one tile of the parallel loop: `p` is its number, out of a grid that is folded into a second
dimension where WebGPU's limit on workgroups asks for it. Each operand is a storage buffer of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nnjit.codegen.expr import LANE, Expr, Index, UnsupportedExpr, walk
from nnjit.codegen.loops import Decode, For, If, Nest, Set, Stmt, Store, mapped
from nnjit.codegen.wgsl.legalize import legal
from nnjit.codegen.wgsl.names import Names
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.codegen.wgsl.types import HELPERS, STORED_BYTES, stored_type
from nnjit.codegen.wgsl.values import Values

ENTRY_POINT = "kernel"


@dataclass(frozen=True, slots=True)
class Binding:
    """A storage buffer: `size` elements, in `nbytes` bytes (whole vectors: the last one is read in full)."""

    binding: int
    dtype: str
    role: str  # "in" | "out"
    size: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Shader:
    """A compute shader and its dispatch; bindings are all of group 0, in operand order."""

    name: str
    wgsl: str
    entry_point: str
    workgroup_size: int
    dispatch: tuple[int, int, int]
    bindings: tuple[Binding, ...]

    def to_js(self) -> dict[str, Any]:
        """What crosses to JavaScript."""
        return {
            "name": self.name,
            "wgsl": self.wgsl,
            "entryPoint": self.entry_point,
            "workgroupSize": self.workgroup_size,
            "dispatch": list(self.dispatch),
            "bindings": [
                {"binding": b.binding, "dtype": b.dtype, "role": b.role, "size": b.size, "nbytes": b.nbytes}
                for b in self.bindings
            ],
        }


def emit(nest: Nest, target: WgslTarget) -> Shader:
    """The shader of `nest`. UnsupportedExpr for a type or an operation that WGSL has not, or too many buffers."""
    if len(nest.operands) > target.max_bindings:
        raise UnsupportedExpr(f"{len(nest.operands)} buffers, the device binds {target.max_bindings}")
    bindings = tuple(
        Binding(i, o.dtype, o.role, o.size, _nbytes(o.dtype, o.size, target))
        for i, o in enumerate(nest.operands)
    )
    groups = max(1, -(-nest.tiles // target.workgroup))
    rows = -(-groups // target.max_groups)
    columns = -(-groups // rows)
    text = _Emitter(nest).shader(target.workgroup, columns if rows > 1 else 0)
    return Shader(nest.name, text, ENTRY_POINT, target.workgroup, (columns, rows, 1), bindings)


def _nbytes(dtype: str, size: int, target: WgslTarget) -> int:
    stored_type(dtype)
    nbytes = -(-max(size, 1) * STORED_BYTES[dtype] // 16) * 16
    if nbytes > target.max_binding_bytes:
        raise UnsupportedExpr(f"a buffer of {nbytes} bytes, the device binds {target.max_binding_bytes}")
    return nbytes


class _Emitter:
    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        loop = nest.body[0]
        assert isinstance(loop, For) and loop.kind == "parallel"
        self.loop, self.names = loop, Names()
        self.memo: dict[Expr, Expr] = {}
        self.body = mapped(loop.body, lambda e: legal(e, self.memo))
        self.wide = _vector_operands(self.body, nest)
        sets = [s.reg for s in _statements(self.body) if isinstance(s, Set)]
        once = frozenset(r for r in sets if sets.count(r) == 1)
        self.v = Values(self.names, operands=nest.operands, wide=self.wide, constant=once)

    def shader(self, workgroup: int, columns: int) -> str:
        """The whole text; `columns` workgroups in a row of the grid, 0 if it has one row."""
        p = self.names.of(self.loop.var)
        place = f"id.x + id.y * {columns * workgroup}u" if columns else "id.x"
        body = self._block(self.body, 1)
        main = [
            f"@compute @workgroup_size({workgroup})",
            f"fn {ENTRY_POINT}(@builtin(global_invocation_id) id: vec3u) {{",
            f"  let {p} = i32({place});",
            f"  if ({p} >= {self.nest.tiles}) {{",
            "    return;",
            "  }",
            *body,
            "}",
        ]
        text = "\n".join(main) + "\n"
        helpers = [f for name, f in HELPERS.items() if f"{name}()" in text]
        tiles = f"{self.nest.tiles} tile{'' if self.nest.tiles == 1 else 's'}"
        head = f"// {self.nest.name}: {tiles}, one an invocation\n"
        return "\n".join([head + self._buffers(), *helpers, text])

    def _buffers(self) -> str:
        lines = []
        for i, o in enumerate(self.nest.operands):
            element = "vec4f" if i in self.wide else stored_type(o.dtype)
            if i in self.wide and o.dtype != "f32":
                element = f"vec4{stored_type(o.dtype)[0]}"
            access = "read" if o.role == "in" else "read_write"
            name = self.v.buffer(i)
            lines.append(f"@group(0) @binding({i}) var<storage, {access}> {name}: array<{element}>;\n")
        return "".join(lines)

    def _block(self, body: Sequence[Stmt], depth: int) -> list[str]:
        """The lines of a block; registers declared in it are gone after it."""
        pad, out, i = "  " * depth, [], 0
        outer = dict(self.v.regs)
        while i < len(body):
            s = body[i]
            if isinstance(s, (Set, Store)):
                run: list[Set | Store] = []
                while i < len(body):
                    t = body[i]
                    if not isinstance(t, (Set, Store)):
                        break
                    run.append(t)
                    i += 1
                out += [pad + line for line in self.v.run(run)]
                continue
            i += 1
            if isinstance(s, For):
                k = self.names.of(s.var)
                out.append(f"{pad}for (var {k} = 0; {k} < {s.extent}; {k}++) {{")
                out += self._block(s.body, depth + 1)
                out.append(pad + "}")
            elif isinstance(s, If):
                out.append(f"{pad}if ({self.names.of(s.var)} < {s.below}) {{")
                out += self._block(s.then, depth + 1)
                if s.orelse:
                    out.append(pad + "} else {")
                    out += self._block(s.orelse, depth + 1)
                out.append(pad + "}")
            else:
                out.append(f"{pad}let {self.names.of(s.var)} = {self._decoded(s)};")
        self.v.regs = outer
        return out

    def _decoded(self, d: Decode) -> str:
        text = self.names.of(d.source)
        text += f" / {d.div}" if d.div > 1 else ""
        return text + (f" % {d.mod}" if d.mod else "")


def _statements(body: Sequence[Stmt]) -> Iterator[Set | Store]:
    for s in body:
        if isinstance(s, For):
            yield from _statements(s.body)
        elif isinstance(s, If):
            yield from _statements(s.then)
            yield from _statements(s.orelse)
        elif isinstance(s, (Set, Store)):
            yield s


def _vector_operands(body: Sequence[Stmt], nest: Nest) -> frozenset[int]:
    """Operands that every access reads or writes as whole vectors at multiples of four: arrays of vec4."""
    wide: set[int] = set()
    narrow = {i for i, o in enumerate(nest.operands) if o.dtype not in ("f32", "i32", "u32")}

    def access(operand: int, i: Index, lanes: int) -> None:
        aligned = i.const % 4 == 0 and all(
            c == 1 if a == LANE else isinstance(a, str) and c % 4 == 0 for a, c in i.terms
        )
        (wide if lanes == 4 and i.coeff(LANE) == 1 and aligned else narrow).add(operand)

    def reads(e: Expr, lanes: int) -> None:
        for x in walk(e):
            if x.op == "load":
                access(x.attr.operand, x.attr.index, lanes)

    for s in _statements(body):
        reads(s.value, s.lanes)
        if isinstance(s, Store):
            # a component written alone may touch the rest of its vector, which could be another invocation's
            access(s.operand, s.index, s.lanes if s.count == 4 else 1)
            for a, _ in s.index.terms:
                if not isinstance(a, str):
                    reads(a, 1)
    return frozenset(wide - narrow)
