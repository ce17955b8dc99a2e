"""Builds a module: imports, functions, table elements and data in, the bytes of a .wasm file out.

Indices are settled in `build()`: function bodies name their callees and types, so functions may be added in
any order and refer to one another before they are complete.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import encode
from .builder import Callee, FunctionBuilder, ImportedFunction
from .encode import section, vector
from .leb import SLEB, ULEB
from .opcodes import OPS, TYPE_BYTE, ValType

KERNEL_PARAMS: tuple[ValType, ...] = ("i32", "i32", "i32")
KERNEL_PARAM_NAMES = ("args", "begin", "end")
"""args: the address of the operands' pointers; begin, end: the iterations of the parallel loop to do."""
MAX_PAGES = 65536
"""Pages of 64 KiB in 4 GiB, all that 32-bit addresses reach."""


class ModuleBuilder:
    """A module under construction; `build()` gives its bytes.

    m = ModuleBuilder("gemm")
    m.import_memory("env", "memory", minimum=1)
    b = m.function(["i32"], ["i32"], "twice", export="twice")
    b.get(0), b.get(0), b.op("i32.add")
    data = m.build()
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._types: dict[tuple[bytes, bytes], int] = {}
        self._imports: list[bytes] = []
        self._imported_functions: list[ImportedFunction] = []
        self._functions: list[FunctionBuilder] = []
        self._tables: list[bytes] = []
        self._memories: list[bytes] = []
        self._globals: list[bytes] = []
        self._exports: list[tuple[str, int, Callee | int]] = []
        self._elements: list[tuple[int, list[Callee]]] = []
        self._data: list[tuple[int | None, bytes]] = []
        self._start: Callee | None = None

    # -- imports

    def import_memory(
        self, module: str, field: str, minimum: int = 0, maximum: int | None = None, shared: bool = False
    ) -> None:
        """Memory from outside, in 64 KiB pages. Shared without a maximum: any shared memory will do."""
        if shared and maximum is None:
            maximum = MAX_PAGES
        self._import(module, field, encode.EXTERN_MEMORY, encode.limits(minimum, maximum, shared))

    def import_table(self, module: str, field: str, minimum: int = 0, maximum: int | None = None) -> None:
        """A funcref table from outside, of at least `minimum` elements."""
        self._import(module, field, encode.EXTERN_TABLE, b"\x70" + encode.limits(minimum, maximum))

    def import_function(
        self, module: str, field: str, params: Sequence[ValType], results: Sequence[ValType] = ()
    ) -> ImportedFunction:
        """A function from outside."""
        function = ImportedFunction(field, params, results)
        self._import(
            module, field, encode.EXTERN_FUNCTION, ULEB[self._type(function.params, function.results)]
        )
        self._imported_functions.append(function)
        return function

    def _import(self, module: str, field: str, kind: int, description: bytes) -> None:
        self._imports.append(encode.name(module) + encode.name(field) + bytes((kind,)) + description)

    # -- definitions

    def function(
        self,
        params: Sequence[ValType],
        results: Sequence[ValType] = (),
        name: str = "",
        export: str = "",
        param_names: Sequence[str] = (),
    ) -> FunctionBuilder:
        """A new function of this module, to be filled in."""
        return self.add(FunctionBuilder(params, results, name or export, param_names), export)

    def add(self, function: FunctionBuilder, export: str = "") -> FunctionBuilder:
        """Add a function built elsewhere."""
        self._functions.append(function)
        if export:
            self._exports.append((export, encode.EXTERN_FUNCTION, function))
        return function

    def memory(
        self, minimum: int, maximum: int | None = None, shared: bool = False, export: str = ""
    ) -> None:
        """A memory of the module's own."""
        self._memories.append(encode.limits(minimum, maximum, shared))
        if export:
            self._exports.append((export, encode.EXTERN_MEMORY, 0))

    def table(self, minimum: int, maximum: int | None = None, export: str = "") -> None:
        """A funcref table of the module's own."""
        self._tables.append(b"\x70" + encode.limits(minimum, maximum))
        if export:
            self._exports.append((export, encode.EXTERN_TABLE, 0))

    def global_(self, ty: ValType, value: int, mutable: bool = True, export: str = "") -> int:
        """An i32 or i64 global with a constant start value; returns its index."""
        start = OPS[f"{ty}.const"].code + SLEB[value] + encode.END
        self._globals.append(bytes((TYPE_BYTE[ty], mutable)) + start)
        if export:
            self._exports.append((export, encode.EXTERN_GLOBAL, len(self._globals) - 1))
        return len(self._globals) - 1

    def start(self, function: Callee) -> None:
        """Run this function at instantiation."""
        self._start = function

    def elements(self, base: int, functions: Sequence[Callee]) -> None:
        """At instantiation put functions into table slots base, base + 1, ..."""
        self._elements.append((base, list(functions)))

    def data(self, address: int | None, content: bytes) -> None:
        """Bytes written at `address` at instantiation; None: a passive segment for memory.init."""
        self._data.append((address, content))

    # -- result

    def build(self) -> bytes:
        """The module's bytes. Raises WasmTypeError if a function is not complete."""
        index: dict[Callee, int] = {}
        for imported in self._imported_functions:
            index[imported] = len(index)
        for function in self._functions:
            index[function] = len(index)
        bodies = [self._body(function, index) for function in self._functions]
        declared = [ULEB[self._type(f.params, f.results)] for f in self._functions]
        exports = [
            encode.name(name) + bytes((kind,)) + ULEB[item if isinstance(item, int) else index[item]]
            for name, kind, item in self._exports
        ]
        elements = [
            b"\x00" + _offset(base) + vector([ULEB[index[f]] for f in functions])
            for base, functions in self._elements
        ]
        data = [
            (b"\x01" if address is None else b"\x00" + _offset(address)) + ULEB[len(content)] + content
            for address, content in self._data
        ]
        types = [encode.function_type(*key) for key in self._types]
        out = bytearray(encode.MAGIC)
        for number, entries in (
            (encode.TYPE, types),
            (encode.IMPORT, self._imports),
            (encode.FUNCTION, declared),
            (encode.TABLE, self._tables),
            (encode.MEMORY, self._memories),
            (encode.GLOBAL, self._globals),
            (encode.EXPORT, exports),
        ):
            if entries:
                out += section(number, vector(entries))
        if self._start is not None:
            out += section(encode.START, ULEB[index[self._start]])
        if elements:
            out += section(encode.ELEMENT, vector(elements))
        if any(address is None for address, _ in self._data):
            out += section(encode.DATA_COUNT, ULEB[len(data)])
        if bodies:
            out += section(encode.CODE, vector(bodies))
        if data:
            out += section(encode.DATA, vector(data))
        return bytes(out + self._names())

    def _type(self, params: bytes, results: bytes) -> int:
        return self._types.setdefault((params, results), len(self._types))

    def _body(self, function: FunctionBuilder, index: dict[Callee, int]) -> bytes:
        function.finish()
        code = function.resolved(index.__getitem__, lambda wanted: self._type(wanted.params, wanted.results))
        body = function.declarations() + code
        return ULEB[len(body)] + body

    def _names(self) -> bytes:
        """The custom section "name": module, functions, locals."""
        functions: list[Callee] = [*self._imported_functions, *self._functions]
        payload = section(0, encode.name(self.name)) if self.name else b""
        texts = unique([f.name for f in functions])
        named = [ULEB[i] + encode.name(text) for i, text in enumerate(texts) if text]
        if named:
            payload += section(1, vector(named))
        of_locals = [
            ULEB[i]
            + vector([ULEB[local] + encode.name(text) for local, text in sorted(f.local_names.items())])
            for i, f in enumerate(self._functions, len(self._imported_functions))
            if f.local_names
        ]
        if of_locals:
            payload += section(2, vector(of_locals))
        return section(encode.CUSTOM, encode.name("name") + payload) if payload else b""


def unique(names: Sequence[str]) -> list[str]:
    """Names made different by a suffix: [a, a, b] -> [a, a.2, b]. Empty ones stay."""
    seen: dict[str, int] = {}
    out: list[str] = []
    for name in names:
        text, nth = name, 1
        while text and text in seen:
            nth += 1
            text = f"{name}.{nth}"
        seen[text] = nth
        out.append(text)
    return out


def _offset(address: int) -> bytes:
    """The constant expression of a segment's place."""
    signed = address - (1 << 32) if address >= 1 << 31 else address
    return OPS["i32.const"].code + SLEB[signed] + encode.END


def kernel_function(name: str) -> FunctionBuilder:
    """An empty kernel: parameters 0 args (address of the operand pointers), 1 begin, 2 end (tiles)."""
    return FunctionBuilder(KERNEL_PARAMS, (), name, KERNEL_PARAM_NAMES)


def kernel_module(function: FunctionBuilder, shared: bool) -> bytes:
    """A module of one kernel: imports env.memory, exports it as "kernel"."""
    module = ModuleBuilder(function.name)
    module.import_memory("env", "memory", shared=shared)
    module.add(function, export="kernel")
    return module.build()
