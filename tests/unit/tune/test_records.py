"""Records: what encode writes decode reads back, and it refuses everything else."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnjit.codegen.expr import Expr, Index, acc, const, load, op
from nnjit.codegen.schedule import steps
from nnjit.codegen.schedule.steps import Schedule
from nnjit.codegen.spec import Axis, KernelSpec, Operand, Stage
from nnjit.errors import RecordError
from nnjit.tune import schedules as codec
from nnjit.tune.device_class import Device, count, decade, engine_of, gpu_device, wasm_device
from nnjit.tune.records import (
    MAX_BYTES,
    VERDICTS,
    Record,
    Timing,
    decode,
    decode_lines,
    encode,
    encode_lines,
    from_json,
    rounded,
    spec_key,
    spec_text,
)
from tests.support.schedules import contractions, reductions, schedules

CLASS = wasm_device("v8", 156, "x86", "fused", 2, 2, 1 << 20).name


def scaled(factor: float, name: str = "f32_gemm") -> KernelSpec:
    """c[m, n] = factor * sum over k of a[m, k] * b[k, n]."""
    body = op("mul", load(0, Index(0, {"m": 8, "k": 1}), "f32"), load(1, Index(0, {"k": 7, "n": 1}), "f32"))
    stage = Stage((), (Axis("k", 8),), "sum", body, op("mul", acc("f32"), const(factor, "f32")), 2,
                  Index(0, {"m": 7, "n": 1}))  # fmt: skip
    operands = (Operand("f32", 40, "in"), Operand("f32", 56, "in", True), Operand("f32", 35, "out"))
    return KernelSpec(name, (Axis("m", 5), Axis("n", 7)), (stage,), operands)


SCHEDULE = (steps.Tile("m", 6), steps.Vectorize("n"))


def timed(schedule: Schedule = SCHEDULE, us: float = 12.0) -> Record:
    return Record(
        "wasm", CLASS, spec_text(scaled(0.5)), schedule, "timed", Timing.of([us]), Timing.of([20.0])
    )


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Any record of a generated spec and schedule."""
    spec, _ = draw(st.one_of(contractions(), reductions()))
    schedule = tuple(s for s in draw(schedules(spec)) if getattr(s, "axis", "") != "none")
    verdict = draw(st.sampled_from(VERDICTS))
    us = st.lists(st.floats(1e-3, 1e8), min_size=1, max_size=9)
    pair = (Timing.of(draw(us)), Timing.of(draw(us))) if verdict == "timed" else (None, None)
    return Record("wasm", CLASS, spec_text(spec), schedule, verdict, *pair)


@given(records())
def test_round_trip(record: Record) -> None:
    line = encode(record)
    assert decode(line) == record
    assert encode(decode(line)) == line
    assert "\n" not in line and line.isascii()


@given(st.lists(records(), max_size=4))
def test_lines(many: list[Record]) -> None:
    text = "# a comment\n\n" + encode_lines(many) + "{broken\n"
    good, bad = decode_lines(text)
    assert good == many
    assert len(bad) == 1


def test_the_text_holds_neither_name_nor_constants() -> None:
    text = spec_text(scaled(0.1234567, "f32_secret"))
    assert "secret" not in text and "1234" not in text
    assert text == spec_text(scaled(-math.inf, "f32_other"))
    assert text.splitlines()[-1] == "  $2[7*m + n] = mul(%acc, _:f32)"


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 1e-30, 1.5e30, math.nan, math.inf, -math.inf, -7, 2**31 - 1, True]
)
def test_each_literal_is_blanked(value: Any) -> None:
    dtype = "bool" if value is True else "i32" if isinstance(value, int) else "f32"
    x = Expr("cast", "f32", (const(value, dtype),))
    stage = Stage((), (), "", None, op("add", load(0, Index.of("i"), "f32"), x), 1, Index.of("i"))
    spec = KernelSpec("k", (Axis("i", 4),), (stage,), (Operand("f32", 4, "in"), Operand("f32", 4, "out")))
    assert spec_text(spec).endswith(f"$1[i] = add($0[i], cast:f32(_:{dtype}))")
    Record("wasm", CLASS, spec_text(spec), (), "trap")


def test_equal_texts_have_equal_keys() -> None:
    assert spec_key(spec_text(scaled(1.0))) == spec_key(spec_text(scaled(2.0)))
    assert len(spec_key("x")) == 32


def changed(**fields: Any) -> dict[str, Any]:
    return {**timed().to_json(), **fields}


BAD: dict[str, Any] = {
    "not an object": [1],
    "a field more": changed(model="resnet"),
    "a field less": {k: v for k, v in timed().to_json().items() if k != "key"},
    "another format": changed(format=2),
    "format true": changed(format=True),
    "compiler 0": changed(compiler=0),
    "compiler text": changed(compiler="1"),
    "target": changed(target="cuda"),
    "device of the other target": changed(target="webgpu"),
    "device not coarse": changed(device=CLASS.replace("150", "156")),
    "device with an end": changed(device=CLASS + "\n"),
    "key of another text": changed(key="0" * 32),
    "key a number": changed(key=1),
    "verdict": changed(verdict="good"),
    "timed without times": changed(time=None),
    "failed with times": changed(verdict="trap"),
    "a time of 0": changed(time={"median": 0.0, "spread": 0.0, "samples": 3}),
    "a negative time": changed(time={"median": -1.0, "spread": 0.0, "samples": 3}),
    "a huge time": changed(time={"median": 10**400, "spread": 0.0, "samples": 3}),
    "four digits": changed(time={"median": 1.234, "spread": 0.0, "samples": 3}),
    "time as text": changed(time={"median": "1", "spread": 0.0, "samples": 3}),
    "no samples": changed(time={"median": 1.0, "spread": 0.0, "samples": 0}),
    "samples true": changed(time={"median": 1.0, "spread": 0.0, "samples": True}),
    "schedule no list": changed(schedule={}),
    "a step no object": changed(schedule=["Tile"]),
    "no such step": changed(schedule=[{"step": "Crease", "axis": "m"}]),
    "a step of no name": changed(schedule=[{"step": ["Tile"], "axis": "m", "factor": 2}]),
    "a step's field more": changed(schedule=[{"step": "Tile", "axis": "m", "factor": 2, "note": "x"}]),
    "a step's field less": changed(schedule=[{"step": "Tile", "axis": "m"}]),
    "a factor with a point": changed(schedule=[{"step": "Tile", "axis": "m", "factor": 2.0}]),
    "a factor true": changed(schedule=[{"step": "Tile", "axis": "m", "factor": True}]),
    "a factor too large": changed(schedule=[{"step": "Tile", "axis": "m", "factor": 2**31}]),
    "an axis of no spec": changed(schedule=[{"step": "Tile", "axis": "q", "factor": 2}]),
    "an axis with spaces": changed(schedule=[{"step": "Tile", "axis": "my model", "factor": 2}]),
    "axes too many": changed(schedule=[{"step": "Order", "axes": ["m"] * 33}]),
    "steps too many": changed(schedule=[{"step": "Tile", "axis": "m", "factor": 2}] * 65),
}


@pytest.mark.parametrize("value", BAD.values(), ids=BAD.keys())
def test_refused(value: Any) -> None:
    from_json(changed())  # what it was made from is one
    with pytest.raises(RecordError):
        from_json(json.loads(json.dumps(value)))


TEXT = spec_text(scaled(0.5))
BAD_TEXTS = {
    "a name": TEXT.replace("kernel", "resnet50", 1),
    "a literal": TEXT.replace("_:f32", "0.5:f32"),
    "a float": TEXT.replace("7*m", "7.5*m"),
    "a word": TEXT.replace("_:f32", "weights"),
    "a string": TEXT.replace("_:f32", '"x"'),
    "an unknown axis": TEXT.replace("7*m", "7*z"),
    "an operand more": TEXT.replace("$1[", "$9["),
    "an open bracket": TEXT.replace("%acc, _:f32)", "%acc, _:f32"),
    "brackets crossed": TEXT.replace("%acc, _:f32)", "%acc, _:f32]"),
    "a line more": TEXT + "\nthis was user 7",
    "a comment": TEXT + "  # hi",
    "operands out of order": TEXT.replace("  $0 in", "  $3 in", 1),
    "no stage": "\n".join(TEXT.splitlines()[:4]),
    "empty": "",
    "one line": TEXT.splitlines()[0],
    "not ASCII": TEXT.replace("7*m", "٧*m"),
    "too long": TEXT.splitlines()[0] + " " + " ".join(f"a{i}:{i}" for i in range(3000)),
    "too many lines": TEXT + "\n  $2[m] = %acc" * 300,
}


@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
def test_refused_texts(text: str) -> None:
    assert text != TEXT
    with pytest.raises(RecordError):
        from_json(changed(spec=text, key=spec_key(text)))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[" * 100_000,
        '{"a":1,"a":1}',
        '{"format":NaN}',
        "x" * (MAX_BYTES + 1),
        b"\xff\xfe",
        "1e999",
        "null",
    ],
)
def test_refused_lines(line: str | bytes) -> None:
    with pytest.raises(RecordError):
        decode(line)


@given(records(), st.data())
def test_a_damaged_line_is_refused_or_itself(record: Record, data: st.DataObject) -> None:
    """No bit flip may raise anything but RecordError, or pass as a record that encodes differently."""
    line = bytearray(encode(record).encode())
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(line))
    except RecordError:
        return
    assert decode(encode(found)) == found


def test_every_step_has_a_codec() -> None:
    """A new step class is in the Step union, and its fields are of kinds the codec reads."""
    classes = {k for k in vars(steps).values() if dataclasses.is_dataclass(k)}
    assert classes <= set(codec.known_steps().values())
    example: dict[Any, Any] = {str: "m", int: 2, bool: True}
    example |= {tuple[str, ...]: ("m", "n"), tuple[int, ...]: (2, 3), tuple[int, int]: (2, 3)}
    for kind in codec.known_steps().values():
        hints = get_type_hints(kind)
        one = kind(*(example[hints[f.name]] for f in dataclasses.fields(kind)))
        assert codec.from_json(json.loads(json.dumps(codec.to_json((one,))))) == (one,)


def test_ratio() -> None:
    assert timed(us=10.0).ratio == 0.5
    assert Record("wasm", CLASS, TEXT, (), "wrong").ratio == math.inf


def test_timing() -> None:
    assert Timing.of([3.0, 1.0, 2.0, 4.0]) == Timing(2.5, 1.5, 4)
    assert Timing.of([1234.56]) == Timing(1230.0, 0.0, 1)
    assert rounded(0.00123456) == 0.00123


def test_device_names() -> None:
    assert CLASS == "wasm.v8-150.x86.fused.2c.2t.1m"
    assert wasm_device("weird", 3, "riscv", "none", 200, 3).name == "wasm.other-0.other.none.64c.2t.x"
    gpu = gpu_device("v8", 156, "NVIDIA", "Ampere", 32, True)
    assert gpu.name == "webgpu.v8-150.nvidia.ampere.s32.f16" and gpu.target == "webgpu"
    assert (
        gpu_device("v8", 156, "Acme Inc", "weird \u2603", 7, False).name == "webgpu.v8-150.other.other.s0.f32"
    )
    with pytest.raises(RecordError):
        Device("wasm.v8-150.x86.fused.3c.2t.1m")


@given(
    st.text(max_size=30), st.integers(-5, 2**40), st.text(max_size=30), st.integers(-1, 300), st.booleans()
)
def test_any_fact_has_a_class(text: str, number: int, other: str, size: int, flag: bool) -> None:
    gpu_device(text, number, other, text, size, flag)
    wasm_device(text, number, other, "fused" if flag else "none", number, size, number)
    engine, version = engine_of(text)
    gpu_device(engine, version, text, other, size, flag)


KHTML = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("agent", "engine"),
    [
        (f"{KHTML} Chrome/156.0.0.0 Safari/537.36", ("v8", 156)),
        (f"{KHTML} Chrome/150.0.0.0 Safari/537.36 Edg/150.0", ("v8", 150)),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", ("spidermonkey", 140)),
        (f"{KHTML} Version/18.3 Safari/605.1.15", ("jsc", 18)),
        ("curl/8", ("other", 0)),
    ],
)  # fmt: skip
def test_engines(agent: str, engine: tuple[str, int]) -> None:
    assert engine_of(agent) == engine


def test_buckets() -> None:
    assert [count(n) for n in (-1, 0, 1, 3, 4, 63, 64, 1000)] == [1, 1, 1, 2, 4, 32, 64, 64]
    assert [decade(n) for n in (-3, 0, 9, 10, 156, 99999)] == [0, 0, 0, 10, 150, 990]
