"""Schedule steps for GPUs, where a tile is done by a workgroup: threads that share memory and can wait for each other.

They stand beside the steps of `steps`: there `Tile` is what one iteration computes, with these it is what a workgroup
does together.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fuse:
    """Axes become one, the last running fastest: `name` is tiled, shared out or staged like any other axis.

    for p in 7: for q in 7: ...   ->   for m in 49: p = m // 7, q = m % 7
    """

    axes: tuple[str, ...]
    name: str

    def __str__(self) -> str:
        return f"{self.name} = {'.'.join(self.axes)}"


@dataclass(frozen=True, slots=True)
class Threads:
    """`count` threads divide the tile of a spatial axis among them, each taking every `count`-th (vector). On a
    reduced axis they divide its elements, and their sums are added up at the end."""

    axis: str
    count: int

    def __str__(self) -> str:
        return f"{self.axis} threads {self.count}"


@dataclass(frozen=True, slots=True)
class Patch:
    """Threads with consecutive numbers do `rows` x `columns` places of a tile that lie side by side: a subgroup that is
    nearly square reads the fewest different elements of the shared arrays."""

    rows: int
    columns: int

    def __str__(self) -> str:
        return f"patches {self.rows}x{self.columns}"


@dataclass(frozen=True, slots=True)
class Cache:
    """Both factors of a product go through shared arrays, `depth` elements of the reduced axis at a time.

    for k in 64: acc += a[m, k] * b[k, n]   ->
    for k.o in 4: (all threads: A = a[tile, 16 of k]; B = b[16 of k, tile]); barrier; acc += A * B; barrier

    ahead: the next stage is read into registers before the sums of the current one, and stored after them. twice: and
    that into other arrays than those of this stage, so that threads wait for each other once a stage. turned: the
    vectors of the left array go along the rows, as those of the right one along the columns."""

    axis: str
    depth: int
    ahead: bool = False
    twice: bool = False
    turned: bool = False

    def __str__(self) -> str:
        how = " twice" if self.twice else " ahead" if self.ahead else ""
        return f"{self.axis} cache {self.depth}{how}{' turned' if self.turned else ''}"


@dataclass(frozen=True, slots=True)
class Team:
    """`threads` threads do one point of the shared axes: each takes every `threads`-th (vector) of a stage's own or
    reduced axes; what they reduced is combined by way of shared memory, and all of them know it then. Within each
    `subgroup` threads, which run in lockstep, they combine it without (1: the device has no such)."""

    threads: int
    subgroup: int = 1

    def __str__(self) -> str:
        return f"team {self.threads}" + (f" in subgroups of {self.subgroup}" if self.subgroup > 1 else "")


@dataclass(frozen=True, slots=True)
class Matrix:
    """Sums are kept in subgroup matrices of rows x columns, `depth` of the reduced axis multiplied at once. Where this
    step is, Threads count subgroups of `subgroup` threads, and the shared arrays hold f16, or words of i8."""

    rows: int
    columns: int
    depth: int
    subgroup: int

    def __str__(self) -> str:
        return f"matrices {self.rows}x{self.columns}x{self.depth}"


@dataclass(frozen=True, slots=True)
class HalfSums:
    """Beside Matrix, of f16: matrices sum up `elements` of the reduced axis in f16, whole stages of Cache, and what
    they come to is added to f32 registers of the threads (see `half_sums`).

    for k in 256: sum += a[k] * b[k]   ->   for r in 4: (h = 0 of f16; for k in 64: h += a[k] * b[k]); sum += h"""

    elements: int

    def __str__(self) -> str:
        return f"sums of f16 over {self.elements}"


@dataclass(frozen=True, slots=True)
class Online:
    """Attention whose scores never leave their workgroup. A tile of `rows` rows of `axis` takes `keys` keys at a
    time: their scores, the largest so far, powers, and what those add to the result, which shrinks as the largest
    grows. down x across threads; factors go through shared arrays, `depth` elements of the sum at a time, `unroll`
    vectors of them without a loop. held: all of the queries stay in a shared array of their own.

    This is the softmax of Milakov and Gimelshein (2018), tiled as in Dao et al. (2022)."""

    axis: str
    rows: int
    down: int
    keys: int
    across: int
    depth: int = 16
    unroll: int = 1
    held: bool = False

    def __str__(self) -> str:
        how = (f" unroll {self.unroll}" if self.unroll > 1 else "") + (" held" if self.held else "")
        return f"{self.axis} tile {self.rows}/{self.down} · online by {self.keys}/{self.across} cache {self.depth}{how}"


@dataclass(frozen=True, slots=True)
class Along:
    """A row or a few by a matrix whose weights lie along the sum: a team of `threads` threads does `columns` columns of
    `axis` at a time, each thread `span` neighbours of the sum in turn; weights in words are read `turns` spans ahead.
    staged: the rows go through a shared array, because neighbouring threads would read them a span apart. early: the
    rows are asked for before the words, which then arrive while the first of them are multiplied; with rounds of Digits
    each round's words are asked for before those of the one before are used. `subgroup` as in Team."""

    axis: str
    columns: int
    threads: int
    span: int
    subgroup: int = 1
    turns: int = 1
    staged: bool = False
    early: bool = False

    def __str__(self) -> str:
        how = (f" x {self.turns}" if self.turns > 1 else "") + (" staged" if self.staged else "")
        how += " rows first" if self.early else ""
        return f"{self.axis} tile {self.columns} · along the sum by {self.threads} x {self.span}{how}"


@dataclass(frozen=True, slots=True)
class Digits:
    """Beside Along, of weights of few bits in words: the rows become fixed point, digits of 8 bits by a power of two
    for 32 neighbours, and are multiplied with the codes by dot products of four bytes (see `digits`).

    for columns in 8: acc[columns] += a[s] * code[columns, s]   ->
    d = digits of a[s]; for round in rounds: for columns in 8: acc[columns] += dot(d, code[columns, s])

    rounds: a team does its columns so many times, others each time, and keeps the digits, which are made once."""

    rounds: int = 1

    def __str__(self) -> str:
        return "digits" + (f" for {self.rounds} rounds" if self.rounds > 1 else "")


@dataclass(frozen=True, slots=True)
class Words:
    """An operand of i8 is read from words, four neighbours along the sum in each (see `words`)."""

    operand: int

    def __str__(self) -> str:
        return f"words of ${self.operand}"


GROUP_STEPS = (Fuse, Threads, Patch, Cache, Team, Matrix, HalfSums, Online, Along, Digits, Words)
GroupStep = Fuse | Threads | Patch | Cache | Team | Matrix | HalfSums | Online | Along | Digits | Words
