"""How Python starts on a first visit: with bytecode that serve.py has made, without it, and with what is of no use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nnjit.devtools.cli import Project

from .api_page import Api, tiny, tiny_weight

if TYPE_CHECKING:
    from playwright.sync_api import Route

    from nnjit.devtools.httpd import Server

RUN = """async (path) => {
  const session = await nnjit.InferenceSession.create(path);
  const { z } = await session.run({ x: T('float32', [1, 1, 1, 1], [1, 4]) });
  const found = [...z.data];
  await session.release();
  return found;
}"""
TRACED = """
import json, traceback
try:
    json.loads('{')
except ValueError:
    text = traceback.format_exc()
text"""
LATE = "import onnx.reference.ops.op_abs, decimal, calendar; calendar.isleap(2000)"
NONE = "the manifest has none"


@pytest.mark.parametrize("bytecode", ["served", "lost", "of another Python", NONE])
def test_a_first_visit_is_the_same_with_bytecode_and_without(
    bytecode: str, new_page: Any, server: Server
) -> None:
    manifest = Project().dist.precompile()
    if "stdlib" not in manifest["pyodide"] or "bytecode" not in manifest["nnjit"]:
        pytest.skip("neither Python 3.14 nor Node is here, or sources have just changed")

    def without(route: Route) -> None:
        for record in (manifest["nnjit"], *manifest["packages"]):
            record.pop("bytecode", None)
        manifest["pyodide"].pop("stdlib")
        route.fulfill(json=manifest, headers=headers)

    def other(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(
            response=answer, body=answer.body().replace(b"\x2b\x0e\x0d\x0a", b"\x2a\x0e\x0d\x0a", 1)
        )

    headers = {"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
    with new_page(allowed=[".*404.*"] if bytecode == "lost" else []) as page:
        if bytecode == "lost":
            page.context.route("**/*.bytecode", lambda route: route.fulfill(status=404, headers=headers))
        elif bytecode == "of another Python":
            page.context.route("**/*.bytecode", other)
        elif bytecode == NONE:
            page.context.route("**/manifest.json", without)
        api = Api(page, server)
        info = api.run("() => nnjit.ready")
        taken, compiled = info["bytecode"]["taken"], info["bytecode"]["compiled"]
        assert taken + compiled > 200 and not info["restored"]
        assert not compiled if bytecode == "served" else not taken, json.dumps(info)
        library = api.run("(code) => nnjit.python(code)", "import calendar; calendar.__file__")
        assert library.endswith(".pyc") == (bytecode != NONE)
        expected = np.maximum(np.ones((1, 4), np.float32) @ tiny_weight(), 0)[0]
        np.testing.assert_allclose(api.run(RUN, api.put("tiny.onnx", tiny())), expected)
        traced = api.run("(code) => nnjit.python(code)", TRACED)
        assert "_default_decoder.decode(s)" in traced  # the source's line
        assert api.run("(code) => nnjit.python(code)", LATE) is True
