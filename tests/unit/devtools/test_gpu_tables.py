"""Tables of GPU records: the last record of a part counts, and only what was measured is renewed in a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.bench import first_samples
from tests.bench.gpu import tables


def record(path: Path, **results: Any) -> Path:
    path.write_text(json.dumps({"results": results}))
    return path


def product(ms: float, split: float | None = None) -> dict[str, Any]:
    flops = 2 * 2048**3
    row: dict[str, Any] = {
        "shape": [2048, 2048, 2048],
        "tflops": {
            "default": flops / ms / 1e9,
            "best": flops / ms / 1e9,
            "tfjs": 10.0,
            "onnxruntime-web": 5.0,
        },
    }
    return row | ({"split": {"parts": 4, "tflops": flops / split / 1e9}} if split else {})


def model(name: str, ms: float, theirs: float) -> dict[str, Any]:
    own = {"ms": ms, "firstMs": 100.0, "profile": {"steps": [{"ms": 0.5}, {"ms": 0.25}]}}
    return {"model": name, "nnjit": own, "onnxruntime-web": {"ms": theirs, "firstMs": 90.0}}


def test_the_last_record_of_a_part_counts(tmp_path: Path) -> None:
    bound = {"products": [["f32", 2048, 2048, 2048, 0.5]]}
    first = record(
        tmp_path / "a.json",
        products=[product(2.0)],
        cublas=bound,
        models=[model("m", 2, 5), model("n", 1, 4)],
    )
    second = record(tmp_path / "b.json", products=[product(1.0, split=0.8)], models=[model("m", 1, 9)])
    found = tables.tables([first, second])
    # in parts, where the rules split: 0.5 ms of the bound's over 0.8
    assert "| 2048³, in 4 parts | 21.5 | 34.4 | 62% | 17.2 | 10 | 5 |" in found["products"]
    assert "(`b.json`)" in found["products"] and "(`a.json`, `b.json`)" in found["models"]
    assert (
        "| m | 1.0 | 0.8 | 2 | 9.0 | 9.0 | 100 / 90 | – |" in found["models"]
        and "| n | 1.0 |" in found["models"]
    )
    assert "| models, geometric mean | 3 | 6.00 of 2 | yes |" in found["bars"]
    assert "| first result no later | all | 0 of 2 | no |" in found["bars"]
    assert "vectors" not in found


def test_records_that_a_page_names_count_unless_they_are_overtaken(tmp_path: Path) -> None:
    """Bars need all parts, of which a new record has some."""
    first = record(tmp_path / "a.json", products=[product(2.0)], models=[model("m", 2, 5)])
    second = record(tmp_path / "b.json", models=[model("m", 1, 9)])
    page = "".join(f"<!-- {part} -->\n<!-- end -->\n" for part in ("bars", "products", "models"))
    page = tables.in_docs(page, tables.tables([first]))
    assert tables.named(page, tmp_path) == [first]
    page = tables.in_docs(page, tables.tables([*tables.named(page, tmp_path), second]))
    assert "f32 over the better peer" in page and "9.00 of 1" in page
    assert "(`a.json`)\n<!-- end -->" in page and "(`b.json`)\n<!-- end -->" in page
    assert tables.named(page, tmp_path) == [first, second]


def test_a_step_by_itself_and_a_run_beside_its_steps(tmp_path: Path) -> None:
    def chain(name: str, steps: int, run: float) -> dict[str, Any]:
        """A step of 3 us, and so much for a run, a quarter of all in the page."""
        each = 3 + run / steps
        wall = {"wall us": each, "encode us": 0.2}
        return {"model": name, "steps": steps, "page us": each / 4, "gpu process us": 3 * each / 4, **wall}

    path = record(tmp_path / "a.json", dispatch=[chain("chain", 500, 400.0), chain("short chain", 5, 400.0)])
    found = tables.tables([path])
    assert "| 3.80 | 0.95 | 0.20 | 2.85 | 3.80 | 3.00 | 400 |" in found["dispatch"]
    assert "| CPU time a step | 5 µs | 3.80; 3.00 without a run's own | yes |" in found["bars"]


def test_parts_that_were_stopped_have_what_they_measured(tmp_path: Path) -> None:
    small = {**product(2.0), "shape": [512, 512, 512]}
    head = {"shape": [12, 1024, 64], "dtype": "f32", "candidates": [], "onnxruntime-web": {"ms": 1.0}}
    path = record(
        tmp_path / "a.json",
        products=[small],
        cublas={"products": [["f32", 512, 512, 512, 0.5]]},
        attention=[head],
        dispatch=[{"model": "resnet-50", "us a step": 3.0}],
        decode={"rows": [{"library": "nnjit", "stays": True, "ms": [9.0, 2.0]}]},
    )
    (tmp_path / "spaces.json").write_text("[]")
    found = tables.tables([path, tmp_path / "spaces.json"])
    assert "| 512³ | 8.6 | 0.5 |" in found["products"] and "dispatch" not in found
    assert "| 12 × 1024 × 64 | f32 | 0.00 | 1.00 | – |" in found["attention"]
    assert "| nnjit | stay on the GPU | 9.0 | – | – |" in found["decode"]
    assert "2048³" not in found["bars"]


def test_what_the_tuner_tries_of_a_row_stands_below_the_rules_own(tmp_path: Path) -> None:
    """Of lines that are right, the fastest; records from before there were any have one line a matrix."""
    row = {"shape": [1, 64, 32], "dtype": "4 bits", "right": "nk", "default": 500.0, "read": 1000.0}
    lines = [
        {"schedule": "a", "ms": 1.0, "error": 1e-7, "GB/s": 700.0},
        {"schedule": "b", "ms": 0.5, "error": 0.1, "GB/s": 1400.0},
        {"schedule": "c", "failed": "no"},
    ]
    own = "| 64×32 | 4 bits in blocks of 32 | 500 | 50% | – | – | 1,000 | – | 50% |"
    path = record(tmp_path / "a.json", **{"copy GB/s": 1000.0, "vectors": [{**row, "listed": lines}]})
    other = "| 64×32 | the same, the best of 3 that the tuner tries | 700 | 70% | – | – | 1,000 | – | 70% |"
    assert f"{own}\n{other}\n" in tables.tables([path])["vectors"] + "\n"
    old = tables.tables([record(tmp_path / "b.json", **{"copy GB/s": 1000.0, "vectors": [row]})])["vectors"]
    assert own in old and "tuner" not in old


def test_only_what_was_measured_is_renewed() -> None:
    page = "a\n<!-- products -->\nold\n<!-- end -->\nb\n<!-- vectors -->\nkept\n<!-- end -->\n"
    new = tables.in_docs(page, {"products": "| new |", "dispatch": "| not in this page |"})
    assert new == "a\n<!-- products -->\n| new |\n<!-- end -->\nb\n<!-- vectors -->\nkept\n<!-- end -->\n"
    assert tables.in_docs(new, {"products": "| new |"}) == new


def test_every_table_has_its_place_in_the_docs() -> None:
    text = tables.DOCS.read_text()
    for key in ("bars", *tables.TABLES):
        if key != "models":
            assert text.count(f"<!-- {key} -->\n") == 1, key


def page(first: float) -> dict[str, Any]:
    """What a page gives of a first result."""
    return {"createMs": first - 50, "firstMs": first, "runMs": 2.0, "stages": {"compile": {"from": 1, "to": first / 2}},
            "pipelines": [{"label": "a", "asked": 10.0, "ms": 30.0}]}  # fmt: skip


def sampled(name: str, ours: list[float], theirs: list[float]) -> dict[str, Any]:
    row: dict[str, Any] = {"model": name}
    for library, values in zip(first_samples.LIBRARIES, (ours, theirs), strict=True):
        pages: list[dict[str, Any]] = []
        for value in values:
            first_samples.added(row, library, page(value) if value else {"failed": "no room"}, pages)
    return row


def test_a_first_result_is_the_median_of_its_pages(tmp_path: Path) -> None:
    """Stages are those of the page that is the median; one page each, as in records of before, is told as it was."""
    rows = [
        sampled("m", [700, 632, 764], [678, 690, 720]),  # later by the median, though not in its best page
        sampled("n", [0, 300, 500], [400]),
        {"model": "before", "nnjit": page(703), "onnxruntime-web": page(678)},
        {"model": "none", "nnjit": {"failed": "no adapter"}},
    ]
    path = tmp_path / "first.json"
    path.write_text(json.dumps({"backend": "webgpu", "rows": rows}))
    found = tables.tables([path])
    assert "| m | – | 0 | 350 | 1: 40 (30) | **700 (632–764)** | 640 | 690 (678–720) |" in found["first"]
    assert "| n | – | 0 | 150 | 1: 40 (30) | **400 (300–500)** | 350 | 400 |" in found["first"]
    assert "| before | – | 0 | 352 | 1: 40 (30) | **703** | 628 | 678 |" in found["first"]
    assert "| none | no adapter |" in found["first"]
    assert first_samples.sooner(rows) == {"m": False, "n": True, "before": False}
    assert "| first result no later | all | 1 of 3 | no |" in found["bars"]


def test_of_a_models_pages_those_that_failed_count_where_all_have() -> None:
    row = sampled("m", [0, 0], [])
    assert row["nnjit"] == {"failed": "no room"} and first_samples.times(row, "nnjit") == []
    row = sampled("m", [900, 0, 800, 700], [])
    assert row["nnjit"]["firstMs"] == 800 and first_samples.times(row, "nnjit") == [900, 800, 700]
    assert len(row["samples"]["nnjit"]) == 4
    assert sampled("m", [900, 800], [])["nnjit"]["firstMs"] == 800, "the lower of two"
