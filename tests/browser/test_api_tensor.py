"""Tensor as onnxruntime-common has it: what it infers, converts and refuses. No worker is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

SET_UP = """async () => {
  for (const part of ['api/tensor', 'api/types', 'api/errors', 'engine/halves']) {
    Object.assign(window, await import(`/${part}.js`));
  }
  window.show = ({ type, dims, data, size, location }) =>
    ({ type, dims: [...dims], array: data.constructor.name, data: Array.from(data, String), size, location });
  window.attempt = (make) => { try { return show(make()); } catch (error) { return error.toJSON(); } };
}"""


@pytest.fixture
def tensors(page: Page) -> Page:
    page.evaluate(SET_UP)
    return page


GOOD = {
    "new Tensor('float32', [1, 2.5], [1, 2])": ("float32", [1, 2], "Float32Array", ["1", "2.5"]),
    "new Tensor('float32', new Float32Array([1, 2]))": ("float32", [2], "Float32Array", ["1", "2"]),
    "new Tensor('float32', [7], [])": ("float32", [], "Float32Array", ["7"]),
    "new Tensor('float32', [], [0, 3])": ("float32", [0, 3], "Float32Array", []),
    "new Tensor('int64', [1, 2n])": ("int64", [2], "BigInt64Array", ["1", "2"]),
    "new Tensor('uint64', [2n ** 64n - 1n])": ("uint64", [1], "BigUint64Array", [str(2**64 - 1)]),
    "new Tensor('bool', [true, false])": ("bool", [2], "Uint8Array", ["1", "0"]),
    "new Tensor('string', ['a', ''], [2, 1])": ("string", [2, 1], "Array", ["a", ""]),
    "new Tensor('int4', new Uint8Array([0x21, 0x03]), [3])": ("int4", [3], "Uint8Array", ["33", "3"]),
    "new Tensor('complex64', [1, 2, 3, 4], [2])": ("complex64", [2], "Float32Array", ["1", "2", "3", "4"]),
    "new Tensor('bfloat16', new Uint16Array([16256]))": ("bfloat16", [1], "Uint16Array", ["16256"]),
    "new Tensor(new Int16Array([3]), [1])": ("int16", [1], "Int16Array", ["3"]),
    "new Tensor(new BigInt64Array([3n]))": ("int64", [1], "BigInt64Array", ["3"]),
    "new Tensor([true])": ("bool", [1], "Uint8Array", ["1"]),
    "new Tensor(['x'])": ("string", [1], "Array", ["x"]),
    "new Tensor(new Uint8ClampedArray([9]))": ("uint8", [1], "Uint8Array", ["9"]),
    "new Tensor('float32', [1, 2, 3, 4], [4]).reshape([2, 2])": (
        "float32",
        [2, 2],
        "Float32Array",
        ["1", "2", "3", "4"],
    ),
}


def test_what_a_tensor_takes(tensors: Page) -> None:
    for source, (kind, dims, array, data) in GOOD.items():
        size = int(np.prod(dims, dtype=int))
        want = {"type": kind, "dims": dims, "array": array, "data": data, "size": size, "location": "cpu"}
        assert tensors.evaluate(f"attempt(() => {source})") == want, source


BAD = {
    "new Tensor('float33', [1])": "TENSOR_TYPE",
    "new Tensor([1, 2])": "TENSOR_TYPE",
    "new Tensor(null)": "TENSOR_TYPE",
    "new Tensor('float32', [1, 2, 3], [2])": "TENSOR_SIZE",
    "new Tensor('int4', new Uint8Array(1), [3])": "TENSOR_SIZE",
    "new Tensor('complex64', [1, 2, 3], [2])": "TENSOR_SIZE",
    "new Tensor('float32', [1], [-1])": "TENSOR_DIMS",
    "new Tensor('float32', [1], [1.5])": "TENSOR_DIMS",
    "new Tensor('float32', [1], 'x')": "TENSOR_DIMS",
    "new Tensor('float32', ['1'])": "TENSOR_DATA",
    "new Tensor('float32', new Float64Array(1))": "TENSOR_DATA",
    "new Tensor('int64', new Int32Array(1))": "TENSOR_DATA",
    "new Tensor('int64', [1.5])": "TENSOR_DATA",
    "new Tensor('int4', [1])": "TENSOR_DATA",
    "new Tensor('string', [1])": "TENSOR_DATA",
    "new Tensor('float32')": "TENSOR_DATA",
    "new Tensor('float32', [1, 2], [2]).reshape([3])": "TENSOR_SIZE",
}


def test_what_a_tensor_refuses(tensors: Page) -> None:
    for source, code in BAD.items():
        assert tensors.evaluate(f"attempt(() => {source})").get("code") == code, source


def test_data_goes_away_once(tensors: Page) -> None:
    got: Any = tensors.evaluate("""async () => {
      const a = new Tensor('float32', [1, 2]), b = new Tensor('float32', [3]);
      const kept = [...await a.getData()], taken = [...await b.getData(true)];
      a.dispose();
      a.dispose();
      const where = [a.location, a.dims];
      return { kept, taken, a: attempt(() => a), b: await b.getData().catch((e) => e.code), where };
    }""")
    assert (got["kept"], got["taken"], got["b"]) == ([1, 2], [3], "TENSOR_DISPOSED")
    assert got["a"]["code"] == "TENSOR_DISPOSED" and got["where"] == ["none", [2]]


def test_half_bits_round_as_numpy_does(tensors: Page) -> None:
    rng = np.random.default_rng(5)
    exact = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    between = (exact[:-1] + exact[1:]) / 2  # ties, to even
    near = between * (1 + rng.choice([-1e-9, 1e-9], between.size))
    spread = rng.standard_normal(2000) * 10.0 ** rng.integers(-9, 6, 2000)
    values = np.concatenate(
        [exact, between, near, spread, [65519.99, 65520, 1e300, np.inf, 2**-25, 2**-25 * 1.01]]
    )
    values = np.concatenate([values, -values])
    with np.errstate(over="ignore"):
        want = values.astype(np.float16).view(np.uint16)
    text = [str(v) for v in values]
    got = tensors.evaluate(
        "(text) => text.map((s) => numberToHalf(s.includes('inf') ? (s[0] === '-' ? -1 : 1) / 0 : +s))", text
    )
    np.testing.assert_array_equal(np.array(got, np.uint16), want)
    assert tensors.evaluate("[numberToHalf(NaN) & 0x7c00, numberToHalf(NaN) & 0x3ff].map(Boolean)") == [
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("name", "names", "near"),
    [
        ("input_id", ["input_ids", "mask"], "input_ids"),
        ("INPUT_IDS", ["input_ids", "mask"], "input_ids"),
        ("zebra", ["input_ids", "mask"], None),
        ("x", ["y"], "y"),
        ("a", [], None),
    ],
)
def test_near_names(tensors: Page, name: str, names: list[str], near: str | None) -> None:
    assert tensors.evaluate("([name, names]) => nearestName(name, names) ?? null", [name, names]) == near
