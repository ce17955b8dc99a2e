"""Identifiers: axes, registers and temporaries as WGSL names, unlike each other and the language's words."""

from __future__ import annotations

import re
from functools import lru_cache

from nnjit.codegen.wgsl.wide import FUNCTIONS

KEYWORDS = """
alias break case const const_assert continue continuing default diagnostic discard else enable false fn for if
let loop override requires return struct switch true var while
""".split()

RESERVED = """
NULL Self abstract active alignas alignof as asm asm_fragment async attribute auto await become cast catch class
co_await co_return co_yield coherent column_major common compile compile_fragment concept const_cast consteval
constexpr constinit crate debugger decltype delete demote demote_to_helper do dynamic_cast enum explicit export
extends extern external fallthrough filter final finally friend from fxgroup get goto groupshared highp impl
implements import inline instanceof interface layout lowp macro macro_rules match mediump meta mod module move mut
mutable namespace new nil noexcept noinline nointerpolation non_coherent noncoherent noperspective null nullptr of
operator package packoffset partition pass patch pixelfragment precise precision premerge priv protected pub public
readonly ref regardless register reinterpret_cast require resource restrict self set shared sizeof smooth snorm
static static_assert static_cast std subroutine super target template this thread_local throw trait try type
typedef typeid typename typeof union unless unorm unsafe unsized use using varying virtual volatile wgsl where with
writeonly yield
""".split()

USED = """
kernel id group local infinity not_a_number bool i32 u32 f32 f16 vec2i vec2 vec3u vec4 vec4i vec4u vec4f array bitcast
select
all any abs ceil dot4I8Packed exp floor fma log max min round sqrt trunc dot vec4h workgroupBarrier
""".split()
"""Names of the language and of the shader itself that a local must not hide."""


TAKEN = frozenset([*KEYWORDS, *RESERVED, *USED, *FUNCTIONS])


@lru_cache(4096)
def _base(wish: str) -> str:
    """`wish` with only letters, digits and single underscores inside."""
    base = re.sub(r"_+", "_", re.sub(r"[^A-Za-z0-9]", "_", wish)).strip("_") or "v"
    return base if base[0].isalpha() else "v" + base


class Names:
    """Unique identifiers of one shader: the same key gets the same name."""

    def __init__(self) -> None:
        self._taken = set(TAKEN)
        self._of: dict[str, str] = {}
        self._count: dict[str, int] = {}

    def of(self, key: str) -> str:
        """The name of an axis or a register."""
        name = self._of.get(key)
        if name is None:
            name = self._of[key] = self.fresh(key)
        return name

    def anew(self, key: str) -> str:
        """The name of a register that is declared here, perhaps not for the first time."""
        self._of[key] = self.fresh(key)
        return self._of[key]

    def fresh(self, wish: str) -> str:
        """`wish` with only letters, digits and single underscores inside, and a number if it is taken."""
        base = _base(wish)
        name, n = base, 1
        while name in self._taken:
            name, n = f"{base}_{n}", n + 1
        self._taken.add(name)
        return name

    def numbered(self, prefix: str) -> str:
        """A temporary: t0, t1, ..."""
        n = self._count.get(prefix, 0)
        self._count[prefix] = n + 1
        return self.fresh(f"{prefix}{n}")
