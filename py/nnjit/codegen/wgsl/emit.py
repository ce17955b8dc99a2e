"""Nest -> Shader: the text of a compute shader and all that a runner needs to dispatch it.

One invocation does one tile of the parallel loop, or one workgroup where the nest has threads: `p` is the tile's
number, out of a grid that is folded into a second dimension where WebGPU's limit on workgroups asks for it. Each
operand is a storage buffer of its own, each shared array a variable of the workgroup.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nnjit.codegen.expr import LANE, Expr, Index, UnsupportedExpr, facts
from nnjit.codegen.loops import (
    MATRICES,
    THREAD,
    Barrier,
    Decode,
    Fetch,
    For,
    If,
    Multiply,
    Nest,
    Put,
    Set,
    Stmt,
    Store,
    Swap,
    Where,
    Zeros,
    mapped,
)
from nnjit.codegen.rewriting import walk
from nnjit.codegen.spec import Operand
from nnjit.codegen.wgsl.legalize import legal
from nnjit.codegen.wgsl.names import Names
from nnjit.codegen.wgsl.parts import ARRAY_BYTES, Part, in_parts, part_bytes, parts_of
from nnjit.codegen.wgsl.target import WgslTarget
from nnjit.codegen.wgsl.types import HELPERS, operand_bytes, stored_bytes, stored_type
from nnjit.codegen.wgsl.values import Values
from nnjit.codegen.wgsl.wide import used

LOADS = facts(("load",))
ENTRY_POINT = "kernel"


@dataclass(frozen=True, slots=True)
class Binding:
    """A storage buffer: `size` elements, in `nbytes` bytes (whole vectors: the last one is read in full)."""

    binding: int
    dtype: str
    role: str  # "in" | "out"
    size: int
    nbytes: int
    packed: bool = False


@dataclass(frozen=True, slots=True)
class Shader:
    """A compute shader and its dispatch; bindings are all of group 0, in operand order."""

    name: str
    wgsl: str
    entry_point: str
    workgroup_size: int
    dispatch: tuple[int, int, int]
    bindings: tuple[Binding, ...]
    parts: tuple[Part, ...] = ()
    """Of operands larger than a binding, what their own does not reach; bound after all of `bindings`."""

    def to_js(self) -> dict[str, Any]:
        """What crosses to JavaScript."""
        more = [
            replace(self.bindings[p.operand], binding=len(self.bindings) + i, nbytes=p.nbytes)
            for i, p in enumerate(self.parts)
        ]
        return {
            "name": self.name,
            "wgsl": self.wgsl,
            "entryPoint": self.entry_point,
            "workgroupSize": self.workgroup_size,
            "dispatch": list(self.dispatch),
            "bindings": [
                {"binding": b.binding, "dtype": b.dtype, "role": b.role, "size": b.size, "nbytes": b.nbytes}
                for b in (*self.bindings, *more)
            ],
        }


def emit(nest: Nest, target: WgslTarget) -> Shader:
    """The shader of `nest`. UnsupportedExpr for a type or an operation that WGSL has not, or too many buffers."""
    sizes = [_padded(max(operand_bytes(o, target.half), 1)) for o in nest.operands]
    parts = tuple(p for i, nbytes in enumerate(sizes) for p in parts_of(i, nbytes, target))
    if len(sizes) + len(parts) > target.max_bindings:
        raise UnsupportedExpr(f"{len(sizes) + len(parts)} buffers, the device binds {target.max_bindings}")
    split = {p.operand for p in parts}
    bindings = tuple(
        Binding(i, o.dtype, o.role, o.size, part_bytes(target) if i in split else sizes[i], o.packed)
        for i, o in enumerate(nest.operands)
    )
    if nest.threads > target.max_workgroup:
        raise UnsupportedExpr(f"{nest.threads} threads, a workgroup has {target.max_workgroup}")
    shared = sum(_padded(o.size * stored_bytes(o.dtype, target.half)) for o in nest.shared)
    if shared > target.max_shared_bytes:
        raise UnsupportedExpr(f"{shared} bytes of workgroup memory, the device has {target.max_shared_bytes}")
    workgroup = nest.threads or target.workgroup
    groups = max(1, nest.tiles if nest.threads else -(-nest.tiles // workgroup))
    rows = -(-groups // target.max_groups)
    columns = -(-groups // rows)
    text = _Emitter(nest, target.half, parts, part_bytes(target)).shader(
        workgroup, columns if rows > 1 else 0
    )
    return Shader(nest.name, text, ENTRY_POINT, workgroup, (columns, rows, 1), bindings, parts)


def _padded(nbytes: int) -> int:
    return -(-nbytes // 16) * 16


class _Emitter:
    def __init__(self, nest: Nest, half: bool, parts: Sequence[Part] = (), part: int = 0) -> None:
        """parts: of operands that are bound so, of `part` bytes each."""
        self.nest, self.half, self.parts, self.part = nest, half, parts, part
        loop = nest.body[0]
        assert isinstance(loop, For) and loop.kind == "parallel"
        self.loop, self.names = loop, Names()
        self.memo: dict[Expr, Expr] = {}
        operands = (*nest.operands, *nest.shared)

        def stored(operand: int, e: Expr) -> Expr:
            """A store to f16 rounds by itself."""
            rounded = e.op == "cast" and e.dtype == "f16" and e.args[0].dtype == "f32"
            return e.args[0] if half and rounded and operands[operand].dtype == "f16" else e

        self.body = mapped(loop.body, lambda e: legal(e, self.memo), stored)
        flat: list[Stmt] = []
        _flatten(self.body, flat)
        self.wide = _vector_operands(flat, operands, half)
        sets = Counter([s.reg for s in flat if isinstance(s, Set)])
        once = frozenset(r for r, count in sets.items() if count == 1)
        self.v = Values(self.names, operands=operands, wide=self.wide, half=half, constant=once)

    def shader(self, workgroup: int, columns: int) -> str:
        """The whole text; `columns` workgroups in a row of the grid, 0 if it has one row."""
        p = self.names.of(self.loop.var)
        if self.nest.threads:
            place = f"group.x + group.y * {columns}u" if columns else "group.x"
            inputs = "@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32"
            first = [f"  let {p} = i32({place});", f"  let {self.names.of(THREAD)} = i32(local);"]
        else:
            place = f"id.x + id.y * {columns * workgroup}u" if columns else "id.x"
            inputs = "@builtin(global_invocation_id) id: vec3u"
            first = [f"  let {p} = i32({place});"]
        main = [
            f"@compute @workgroup_size({workgroup})",
            f"fn {ENTRY_POINT}({inputs}) {{",
            *first,
            f"  if ({p} >= {self.nest.tiles}) {{",
            "    return;",
            "  }",
            *self._block(self.body, 1),
            "}",
        ]
        text, reads = self._in_parts("\n".join(main) + "\n")
        own = [f for _, f in self.v.functions.values()]
        whole = "\n".join([text, *own])
        helpers = [*reads, *own, *(f for name, f in HELPERS.items() if f"{name}()" in whole), *used(whole)]
        tiles = f"{self.nest.tiles} tile{'' if self.nest.tiles == 1 else 's'}"
        who = f"{self.nest.threads} threads each" if self.nest.threads else "one an invocation"
        head = f"// {self.nest.name}: {tiles}, {who}\n"
        if "subgroup_matrix_result" in text:
            # an offset by the subgroup's number is the same in all its threads, but the language cannot know
            head += "diagnostic(off, chromium.subgroup_matrix_uniformity);\n"
            head += "enable chromium_experimental_subgroup_matrix;\n"
        if "subgroupShuffle" in text:
            head += "enable subgroups;\n"
        buffers = self._buffers()
        if "f16" in buffers or "vec4h" in buffers:
            head += "enable f16;\n"
        return "\n".join([head + buffers, *helpers, text])

    def _array(self, i: int, o: Operand) -> tuple[str, int]:
        """The element type of an operand's array, and how many there are."""
        element = stored_type(o.dtype, self.half)
        if o.packed:
            return "u32", -(-o.size // 4)
        if i in self.wide:
            return f"vec4{'h' if element == 'f16' else element[0]}", -(-o.size // 4)
        return element, o.size

    def _in_parts(self, text: str) -> tuple[str, list[str]]:
        """The text with accesses by parts, and the functions for them."""
        reads = []
        for i in sorted({p.operand for p in self.parts}):
            element, _ = self._array(i, self.nest.operands[i])
            count = 1 + sum(p.operand == i for p in self.parts)
            each = self.part // ARRAY_BYTES[element]
            text, read = in_parts(text, self.v.buffer(i), element, each, count)
            reads.append(read)
        return text, [r for r in reads if f"{r.split('(')[0][3:]}(" in text]

    def _buffers(self) -> str:
        lines, last = [], len(self.nest.operands)
        split = {p.operand for p in self.parts}
        for i, o in enumerate((*self.nest.operands, *self.nest.shared)):
            (element, size), name = self._array(i, o), self.v.buffer(i)
            access = "read" if o.role == "in" else "read_write"
            if o.role == "shared":
                lines.append(f"var<workgroup> {name}: array<{element}, {size}>;\n")
                continue
            names = [f"{name}_0"] if i in split else [name]
            names += [f"{name}_{n + 1}" for n in range(sum(p.operand == i for p in self.parts))]
            at = [i, *(last + n for n, p in enumerate(self.parts) if p.operand == i)]
            lines += [
                f"@group(0) @binding({n}) var<storage, {access}> {part}: array<{element}>;\n"
                for n, part in zip(at, names, strict=True)
            ]
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
                if s.limit is None:
                    out.append(f"{pad}for (var {k} = 0; {k} < {s.extent}; {k}++) {{")
                else:
                    out += [pad + line for line in self.v.until(s.limit, k, s.extent)]
                out += self._block(s.body, depth + 1)
                out.append(pad + "}")
            elif isinstance(s, If):
                out.append(f"{pad}if ({self.names.of(s.var)} < {s.below}) {{")
                out += self._block(s.then, depth + 1)
                if s.orelse:
                    out.append(pad + "} else {")
                    out += self._block(s.orelse, depth + 1)
                out.append(pad + "}")
            elif isinstance(s, Where):
                out += [pad + line for line in self.v.condition(s.cond)]
                out += self._block(s.then, depth + 1)
                out.append(pad + "}")
            elif isinstance(s, Barrier):
                out.append(pad + "workgroupBarrier();")
            elif isinstance(s, Swap):
                out += [pad + line for line in self.v.swapped(s)]
            elif isinstance(s, MATRICES):
                out += [pad + line for line in self._matrix(s)]
            else:
                out.append(f"{pad}let {self.names.of(s.var)} = {self._decoded(s)};")
        self.v.regs = outer
        return out

    def _matrix(self, s: Zeros | Fetch | Multiply | Put) -> list[str]:
        """A statement about subgroup matrices, whose types have columns before rows."""
        if isinstance(s, Zeros):
            name, kind = self.names.of(s.reg), f"subgroup_matrix_result<{s.dtype}, {s.columns}, {s.rows}>"
            # sums of f16 begin again in a loop: Tint zeroes a variable without a value where the function begins alone
            return [f"var {name} = {kind}();"] if s.dtype == "f16" else [f"var {name}: {kind};"]
        if isinstance(s, Multiply):
            acc, left, right = (self.names.of(r) for r in (s.acc, s.left, s.right))
            return [f"{acc} = subgroupMatrixMultiplyAccumulate({left}, {right}, {acc});"]
        array = f"&{self.v.buffer(s.operand)}"
        if isinstance(s, Put):
            put = self.names.of(s.reg)
            return self.v.placed(
                s.index, lambda at: f"subgroupMatrixStore({array}, {at}, {put}, false, {s.stride}u);"
            )
        name = self.names.anew(s.reg)  # stages one after the other, not in a loop, fetch the same again
        kind, turned = (
            f"subgroup_matrix_{s.side}<{s.dtype}, {s.columns}, {s.rows}>",
            str(s.transposed).lower(),
        )
        load = f"let {name} = subgroupMatrixLoad<{kind}>"
        return self.v.placed(s.index, lambda at: f"{load}({array}, {at}, {turned}, {s.stride}u);")

    def _decoded(self, d: Decode) -> str:
        text = self.names.of(d.source)
        text += f" / {d.div}" if d.div > 1 else ""
        text += f" % {d.mod}" if d.mod else ""
        return f"select(({text}) / 2, {d.fold - 1} - ({text}) / 2, ({text}) % 2 == 1)" if d.fold else text


def _flatten(body: Sequence[Stmt], out: list[Stmt]) -> None:
    """Appends every statement, those inside others too."""
    for s in body:
        out.append(s)
        if isinstance(s, For):
            _flatten(s.body, out)
        elif isinstance(s, If):
            _flatten(s.then, out)
            _flatten(s.orelse, out)
        elif isinstance(s, Where):
            _flatten(s.then, out)


def _vector_operands(flat: Sequence[Stmt], operands: Sequence[Operand], half: bool) -> frozenset[int]:
    """Operands that every access of these statements reads or writes as whole vectors at multiples of four: arrays of
    vec4."""
    wide: set[int] = set()
    narrow = {i for i, o in enumerate(operands) if o.dtype == "bool" or stored_type(o.dtype, half) == "vec2i"}
    done: dict[int, set[Expr]] = {}

    def access(operand: int, i: Index, lanes: int) -> None:
        aligned = i.const % 4 == 0 and all(
            c == 1 if a == LANE else c % 4 == 0 and (isinstance(a, str) or LANE not in a.axes())
            for a, c in i.terms
        )
        (wide if lanes == 4 and i.coeff(LANE) == 1 and aligned else narrow).add(operand)

    def reads(e: Expr, lanes: int) -> None:
        for x in walk(e, done.setdefault(lanes, set())):
            if x.op == "load":
                access(x.attr.operand, x.attr.index, lanes)

    for s in flat:
        if isinstance(s, (Set, Store)) and s.value.facts & LOADS:
            reads(s.value, s.lanes)
        elif isinstance(s, (Fetch, Put)):
            narrow.add(s.operand)
        elif isinstance(s, Where):
            reads(s.cond, 1)
        elif isinstance(s, For) and s.limit is not None:
            reads(s.limit, 1)
        if isinstance(s, Store):
            # a component written alone may touch the rest of its vector, which could be another invocation's
            access(s.operand, s.index, s.lanes if s.count == 4 else 1)
            for a, _ in s.index.terms:
                if not isinstance(a, str):
                    reads(a, 1)
    return frozenset(wide - narrow)
