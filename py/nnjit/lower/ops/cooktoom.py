"""Minimal filtering: m outputs of a filter of r taps by m + r - 1 products (Toom-Cook, Winograd).

    y = A' ((G g) * (B' d))        y: m outputs, g: r taps, d: m + r - 1 inputs, * element by element

`matrices(m, r)` gives A', G and B' exactly; `applied` multiplies one with expressions, in few operations. A filter
that moves on by s inputs an output is s filters at once, each of every s-th tap over every s-th input (`parts`). The
construction is Lagrange interpolation at small rational points and at infinity (S. Winograd, Arithmetic
Complexity of Computations, 1980; A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from nnjit.codegen.expr import Expr, const, op

Matrix = tuple[tuple[Fraction, ...], ...]
POINTS = ("0", "1", "-1", "2", "-2", "1/2", "-1/2")
"""Where filters are interpolated, in the order in which they are taken: powers of two of both signs."""
FIVE = ("0", "5/8", "-5/8", "3/2", "-3/2")
"""For five of them. Over 256 channels of unit variance, F(4, 3) in two dimensions has an rms error of 2.0e-6 with
these, 4.5e-6 with 0, 1, -1, 2, -2, and a direct sum in order has 1.2e-6."""


@dataclass(frozen=True, slots=True)
class Matrices:
    """outputs: m x n, taps: n x r, inputs: n x n, where n = step * (m - 1) + r."""

    outputs: Matrix
    taps: Matrix
    inputs: Matrix


@dataclass(frozen=True, slots=True)
class Part:
    """Products first, first + 1 ... of a filter: those of every step-th tap. alike: their taps' transforms are equal,
    since there is one tap."""

    first: int
    count: int
    alike: bool


def parts(m: int, r: int, step: int = 1) -> tuple[Part, ...]:
    """The products of m outputs by r taps, part by part; one part where a filter moves on by single inputs."""
    out: list[Part] = []
    for phase in range(min(step, r)):
        taps = -(-(r - phase) // step)
        first = out[-1].first + out[-1].count if out else 0
        out.append(Part(first, m + taps - 1, taps == 1 and m > 1))
    return tuple(out)


@cache
def matrices(m: int, r: int, step: int = 1) -> Matrices:
    """The three transforms of m outputs by r taps, `step` inputs apart; m + r - 1 <= 8."""
    if step == 1:
        return _minimal(m, r)
    n = step * (m - 1) + r
    outputs: list[list[Fraction]] = [[] for _ in range(m)]
    taps: list[tuple[Fraction, ...]] = []
    inputs: list[tuple[Fraction, ...]] = []
    for phase, part in enumerate(parts(m, r, step)):
        small = _minimal(m, part.count - m + 1)
        for row, more in zip(outputs, small.outputs, strict=True):
            row += more
        taps += [_every(row, phase, step, r) for row in small.taps]
        inputs += [_every(row, phase, step, n) for row in small.inputs]
    return Matrices(tuple(map(tuple, outputs)), tuple(taps), tuple(inputs))


def _every(row: Sequence[Fraction], phase: int, step: int, n: int) -> tuple[Fraction, ...]:
    """A row of n places with the numbers of `row` at phase, phase + step, phase + 2 step ..."""
    out = [Fraction(0)] * n
    out[phase::step] = row
    return tuple(out)


def _minimal(m: int, r: int) -> Matrices:
    """The three transforms of F(m, r)."""
    n = m + r - 1
    if r == 1:
        one = tuple(tuple(Fraction(int(i == j)) for j in range(m)) for i in range(m))
        return Matrices(one, ((Fraction(1),),) * m, one)
    points = [Fraction(p) for p in (FIVE if n - 1 == len(FIVE) else POINTS)[: n - 1]]
    last = [Fraction(0)] * (n - 1)
    outputs = tuple((*(p**j for p in points), Fraction(int(j == m - 1))) for j in range(m))
    taps: list[tuple[Fraction, ...]] = []
    inputs: list[tuple[Fraction, ...]] = []
    for i, p in enumerate(points):
        others = [q for k, q in enumerate(points) if k != i]
        scale = Fraction(1)
        for q in others:
            scale *= p - q
        # the sign goes to the inputs, where it only swaps a subtraction
        sign = 1 if scale > 0 else -1
        taps.append(tuple(p**k / abs(scale) for k in range(r)))
        inputs.append((*(sign * c for c in _monic(others)), Fraction(0)))
    taps.append((*last[: r - 1], Fraction(1)))
    inputs.append(_monic(points))
    return Matrices(outputs, tuple(taps), tuple(inputs))


def _monic(roots: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """Coefficients of the product of (x - root), constant term first."""
    out = [Fraction(1)]
    for q in roots:
        out = [a - q * b for a, b in zip([Fraction(0), *out], [*out, Fraction(0)], strict=True)]
    return tuple(out)


Share = Callable[[Expr], Expr]
"""Keeps a value that is used more than once; gives what reads it again."""


def applied(matrix: Matrix, values: Sequence[Expr], share: Share = lambda e: e) -> list[Expr]:
    """matrix times a vector of expressions. Points of both signs make rows, or columns, that differ in signs
    only: their common part and the part that changes its sign are computed once for both."""
    return product(matrix)(values, share)


@cache
def product(matrix: Matrix) -> Product:
    """`applied` of a matrix that meets many vectors."""
    columns = _twins(tuple(zip(*matrix, strict=True)))
    for i, j in columns:
        # a * (x + y) or a * (x - y) instead of a * x +- a * y
        matrix = tuple(
            tuple(
                Fraction(0) if (k == j and row[i] == row[j]) or (k == i and row[i] != row[j]) else c
                for k, c in enumerate(_signed(row, i, j))
            )
            for row in matrix
        )
    rows: dict[int, tuple[int, Sum, Sum]] = {}
    single: dict[int, Sum] = {}
    for i, j in _twins(matrix):
        pairs = list(zip(matrix[i], matrix[j], strict=True))
        even = _terms([c if c == d else Fraction(0) for c, d in pairs])
        rows[i] = j, even, _terms([c if c != d else Fraction(0) for c, d in pairs])
    paired = {n for i, (j, _, _) in rows.items() for n in (i, j)}
    for i, row in enumerate(matrix):
        if i not in paired:
            single[i] = _terms(row)
    return Product(tuple(columns), rows, single, len(matrix))


Sum = tuple[tuple[float, int], ...]
"""Coefficients and the places of what they multiply, coefficients of 1 first."""


@dataclass(frozen=True)
class Product:
    """What is to be done for a product with a matrix: `columns` are replaced by their sum and difference; then pairs of
    rows are the sum and the difference of two sums, and others a sum by themselves."""

    columns: tuple[tuple[int, int], ...]
    rows: dict[int, tuple[int, Sum, Sum]]
    single: dict[int, Sum]
    size: int

    def __call__(self, given: Sequence[Expr], share: Share) -> list[Expr]:
        """The matrix times these values."""
        values = list(given)
        for i, j in self.columns:
            x, y = values[i], values[j]
            values[i], values[j] = share(op("add", x, y)), share(op("sub", x, y))
        out: dict[int, Expr] = {}
        for i, (j, common, signed) in self.rows.items():
            even, odd = share(_sum(common, values)), share(_sum(signed, values))
            out[i], out[j] = op("add", even, odd), op("sub", even, odd)
        return [out[i] if i in out else _sum(self.single[i], values) for i in range(self.size)]


def _signed(row: Sequence[Fraction], i: int, j: int) -> list[Fraction]:
    """The row with column j's coefficient as that of (x_i - x_j)."""
    return [-c if k == j else c for k, c in enumerate(row)]


def _twins(rows: Sequence[Sequence[Fraction]]) -> list[tuple[int, int]]:
    """Pairs of rows that are equal but for some, not all, signs."""
    out: list[tuple[int, int]] = []
    used: set[int] = set()
    for i, a in enumerate(rows):
        for j in range(i + 1, len(rows)):
            b = rows[j]
            if used & {i, j} or any(abs(c) != abs(d) for c, d in zip(a, b, strict=True)):
                continue
            same = sum(1 for c, d in zip(a, b, strict=True) if c and c == d)
            flipped = sum(1 for c, d in zip(a, b, strict=True) if c and c != d)
            if same and flipped and same + flipped > 2:
                out.append((i, j))
                used |= {i, j}
    return out


def _terms(row: Sequence[Fraction]) -> Sum:
    return tuple(sorted(((float(c), k) for k, c in enumerate(row) if c), key=lambda t: -int(t[0] == 1)))


def _sum(terms: Sum, values: Sequence[Expr]) -> Expr:
    """The sum of coefficient * value; additions and subtractions where the coefficient is 1 or -1."""
    if not terms:
        return const(0, values[0].dtype)
    first, k = terms[0]
    v = values[k]
    out = v if first == 1 else op("mul", v, const(first, v.dtype))
    for c, k in terms[1:]:
        v = values[k]
        if abs(c) == 1:
            out = op("add" if c > 0 else "sub", out, v)
        else:
            out = Expr("fma", v.dtype, (v, const(c, v.dtype), out))
    return out
