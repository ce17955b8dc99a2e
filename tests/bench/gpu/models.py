"""Whole models on WebGPU beside onnxruntime-web, by the wall clock; their steps beside the device's peaks.

Each part takes the Bench and fills its `result`.
"""

from __future__ import annotations

from typing import Any

from onnx import TensorProto, helper

from nnjit.tune.gpu_device import facts_of, probes
from tests.bench.gpu.page import Bench, difference
from tests.bench.gpu.steps import Peaks, table
from tests.models import catalogue
from tests.support.codec import Packer


def models(bench: Bench) -> None:
    bench.result["models"] = []
    peaks = measured_peaks(bench)
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["y"])], "warm", info[:1], info[1:])
    tiny = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    url = bench.lab.site.put("~/warm.onnx", tiny.SerializeToString())
    for library in bench.libraries:
        bench.page.evaluate("(a) => bench.warm(...a)", [library, url])
    for name in bench.options.models.split(","):
        entry = catalogue.MODELS[name]
        shape = entry.shapes[0][1:]
        for batch in map(int, bench.options.batch.split(",")):
            label = name if batch == 1 else f"{name} x{batch}"
            feeds = entry.make(batch, *shape, seed=1000)
            row = _model(bench, label, entry.path().read_bytes(), feeds)
            bench.result["models"].append(row)
            if "profile" in row["nnjit"]:
                bench.say(table(row, peaks))
            bench.save()


def _model(bench: Bench, name: str, data: bytes, feeds: dict[str, Any]) -> dict[str, Any]:
    packer = Packer()
    heads = {n: packer.add(v) for n, v in feeds.items()}
    blob = bench.lab.site.put(f"~/{name}.bin", bytes(packer.blob))
    url = bench.lab.site.put(f"~/{name.replace(' ', '-')}.onnx", data)
    row: dict[str, Any] = {"model": name}
    for library in bench.libraries:
        own = f"{url}?{library}"  # else whoever comes second has it from the browser's cache
        try:
            how = [bench.options.repeats, bench.options.stays]
            row[library] = bench.page.evaluate("(a) => bench.model(...a)", [library, own, heads, blob, *how])
        except Exception as error:  # what cannot run is a line in the record
            row[library] = {"failed": str(error)[:600]}
        found = row[library]
        text = (
            f"{found['ms']:.2f} ms, first {found['firstMs']:.0f}" if "ms" in found else found["failed"][:160]
        )
        stays = found.get("stays")
        bench.say(f"{name} {library}: {text}" + (f", outputs left there {stays:.2f} ms" if stays else ""))
    ours, theirs = (row.get(n, {}).get("heads", {}) for n in ("nnjit", "onnxruntime-web"))
    row["difference"] = {n: difference(ours[n], theirs[n]) for n in ours if n in theirs}
    bench.say(f"  {row['difference']}")
    return row


def measured_peaks(bench: Bench) -> Peaks:
    """What the device can do, by the tuner's own probes."""
    found = probes(bench.target)
    ms = {p.name: bench.timed(p.shader.to_js())["ms"] for p in found}
    bench.forget()
    facts = bench.result["peaks"] = facts_of(found, ms).to_json()
    bench.say(f"peaks: {facts['gflops'] / 1e3:.1f} TFLOP/s, {facts['gbytes']:.0f} GB/s")
    return Peaks.read(facts)
