"""What tests of Python's snapshot share: making one, another visit, a model that is run on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .api_page import Api

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from nnjit.devtools.httpd import Server

WANTED = "async () => { (await import('/nnjit.js')).default.env.snapshot = 'auto'; }"
MAKE = """async () => {
  const nnjit = (await import('/nnjit.js')).default;
  const { getCompiler } = await import('/api/workers.js');
  nnjit.env.snapshot = 'auto';
  const info = await nnjit.ready;
  const given = await getCompiler().rpc.call('snapshot.from', undefined);
  const told = [];
  for (const message of [given, { prove: true, key: given.key, manifest: given.manifest }]) {
    const worker = new Worker('/api/snapshot.worker.js', { type: 'module' });
    const done = new Promise((resolve) => worker.addEventListener('message', ({ data }) => resolve(data)));
    worker.postMessage(message);
    told.push(await done);
    worker.terminate();
    const usable = (await (await caches.open('nnjit-python')).keys()).some(({ url }) => url.endsWith('/facts'));
    told.push(usable);
  }
  return [info, told];
}"""
SETTLED = """async () => {
  const store = await caches.open('nnjit-python');
  const begun = async () => (await store.keys()).some(({ url }) => url.endsWith('/begun'));
  await until(async () => !(await begun()));
  return (await store.keys()).length;
}"""
RUN = """async ([path, provider]) => {
  const session = await nnjit.InferenceSession.create(path, { executionProviders: [provider] });
  const { z } = await session.run({ x: T('float32', [1, 1, 1, 1], [1, 4]) });
  const found = [...z.data];
  await session.release();
  return found;
}"""
LAZY = "import decimal, onnx.compose, numpy.polynomial as p; float(p.Polynomial([1, 2])(3.0))"


def give_storage(page: Page, server: Server, size: float) -> None:
    """Lets the page keep `size` bytes: a private window has no room for a snapshot."""
    origin = server.url.rstrip("/")
    page.context.new_cdp_session(page).send(
        "Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": size}
    )


def again(page: Page, server: Server) -> tuple[Api, dict[str, Any]]:
    """Another visit, and what its compiler says of itself."""
    page.reload()
    page.evaluate(WANTED)
    api = Api(page, server)
    info: dict[str, Any] = api.run("() => nnjit.ready")
    page.evaluate(SETTLED)
    return api, info
