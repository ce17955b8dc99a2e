"""The examples of README.md and docs/ run in the page as printed; only the names that they leave open are given."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.support.docs import everywhere

from .api_page import Api, model

SHAPE = [1, 3, 224, 224]
SCRIPTS = everywhere("js")
# What must hold behind an example, in its own names. INSIDE are calls of the inner interfaces, which test_engine*.py
# and test_records.py make.
PAGE = {
    ("README.md", 0): "logits.dims.join() === '1,5' && session.placement().length === 3",
    ("docs/api.md", 0): "scores.length === 5 && session.state === 'released'",
    ("docs/api.md", 1): "y.data.every((v) => v === 1)",
    ("docs/api.md", 2): "y.location === 'none' && session.state === 'ready'",
    ("docs/tuning.md", 0): "session.tuning.status().mode === 'idle'",
}
GPU = {("docs/api.md", 3): "session.backend === 'webgpu' && y.location === 'none'"}
INSIDE = {("docs/engine.md", 0), ("docs/records.md", 0)}

# Names that examples use without making them. `state` is as large as what comes out, so that this may be fed.
GIVEN = """
const n = 6, dims = [2, 3];
const pixels = new Float32Array(3 * 224 * 224), data = pixels;
const feeds = { x: new nnjit.Tensor('float32', new Float32Array(n).fill(1), dims),
  state: new nnjit.Tensor('float32', new Float32Array(n), dims) };
const url = new URL('stateful.onnx', document.baseURI);
const consume = (values) => { if (values.length !== n) throw new Error('too short'); };
let session = await nnjit.InferenceSession.create(url);
"""


def picture(output: str = "logits") -> bytes:
    """Five scores of a picture."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["row"]),
        helper.make_node("MatMul", ["row", "w"], [output]),
    ]
    inputs = {"input": (TensorProto.FLOAT, SHAPE)}
    made = model(nodes, inputs, {output: (TensorProto.FLOAT, [1, 5])}, {"w": np.ones((3, 5), np.float32)})
    return made.SerializeToString()


def stateful() -> bytes:
    """y = x + state."""
    of = (TensorProto.FLOAT, [2, 3])
    nodes = [helper.make_node("Add", ["x", "state"], ["y"])]
    return model(nodes, {"x": of, "state": of}, {"y": of}).SerializeToString()


@pytest.fixture
def served(api: Api) -> Api:
    for name in ("resnet-50.onnx", "model.onnx"):
        api.put(name, picture())
    api.put("stateful.onnx", stateful())
    return api


def script(code: str, holds: str, given: str = GIVEN) -> str:
    """An async function of the example's text; import statements, which only modules have, become the call."""
    body = re.sub(r"import (\{.*?\}) from '\./(.*?)';", r"const \1 = await import('/\2');", code)
    made = re.search(r"const session = |session = ", code)
    release = "await session.release();" if made else ""
    return f"""async () => {{
      const nnjit = (await import('/nnjit.js')).default;
      const {{ InferenceSession, Tensor }} = nnjit;
      {given}
      try {{
        {{ {body}
          const holds = {holds};
          {release}
          return holds;
        }}
      }} finally {{ await session?.release(); }}
    }}"""


def test_every_example_is_known() -> None:
    assert set(SCRIPTS) == {*PAGE, *GPU, *INSIDE}


@pytest.mark.parametrize("where", PAGE, ids=lambda where: f"{where[0]}-{where[1]}")
def test_an_example_for_the_page(served: Api, where: tuple[str, int]) -> None:
    assert served.run(script(SCRIPTS[where], PAGE[where])) is True


@pytest.mark.swiftshader
@pytest.mark.parametrize("where", GPU, ids=lambda where: f"{where[0]}-{where[1]}")
def test_an_example_for_the_gpu(swiftshader_page: Any, server: Any, where: tuple[str, int]) -> None:
    api = Api(swiftshader_page, server)
    pooled = [helper.make_node("GlobalAveragePool", ["x"], ["y"])]
    of = {"x": (TensorProto.FLOAT, SHAPE)}
    api.put("pooled.onnx", model(pooled, of, {"y": (TensorProto.FLOAT, [1, 3, 1, 1])}))
    given = """const url = new URL('pooled.onnx', document.baseURI);
      let session = await nnjit.InferenceSession.create(url, { executionProviders: ['webgpu'] });
      const { device: mine } = nnjit.env.webgpu;
      const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC;
      const buffer = mine.createBuffer({ size: 4 * 3 * 224 * 224, usage });"""
    assert api.run(script(SCRIPTS[where], GPU[where], given)) is True


@pytest.mark.parametrize("where", [("README.md", 0), ("docs/api.md", 0)], ids=str)
def test_an_example_in_python(served: Api, where: tuple[str, int]) -> None:
    served.put("scores.onnx", picture("scores"))
    given = """
import numpy as np
model = {url!r}
feeds = {{"input": np.zeros((1, 3, 224, 224), np.float32)}}
"""
    url = served.run("() => new URL('scores.onnx', document.baseURI).href")
    code = given.format(url=url) + everywhere("python")[where]
    got = served.run("(code) => nnjit.python(code)", code + "\n'scores' in dir() and scores.shape == (1, 5)")
    assert got is True
