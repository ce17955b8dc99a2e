"""The page's own flows, on a stand-in for the compiler: how fast, where it ran, kernels, capabilities, links."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .page_flows import Open, fed, load, run, total

if TYPE_CHECKING:
    from playwright.sync_api import Page


class TestLookingInside:
    def test_repeating_gives_percentiles_apart_from_the_first_run(self, home: Open) -> None:
        page = home()
        load(page)
        run(page)
        assert "first run" in page.inner_text(".figures")
        page.wait_for_selector(".figures dt:text('typical')")  # the first run is followed by a few, unasked
        page.evaluate("""() => {
          const go = document.querySelector('.inputs .primary');
          window.changes = 0;
          new MutationObserver((seen) => { changes += seen.length; }).observe(go, { attributes: true });
        }""")
        page.click(".latency button")
        page.wait_for_function("document.querySelector('.latency button').textContent.startsWith('Run')")
        # drawing takes a core from what is timed: the form hears of the series, not of each run in it
        assert page.evaluate("changes") == 2
        # the unasked ones, at most ten, ended when the series began
        assert 30 < page.locator(".chart .bar").count() <= 40
        text = page.inner_text(".figures")
        p50, p95 = (re.findall(rf"{name}\)\s+([\d.]+) ms", text) for name in ("p50", "p95"))
        assert 0 < float(p50[0]) <= float(p95[0])

    def test_sizes_that_a_plan_has_room_for_are_not_said_to_be_compiled(self, home: Open) -> None:
        page = home()
        load(page, "roomy.onnx")
        run(page)
        page.wait_for_selector(".figures dt:text('first run, compiling included')")
        page.fill("[data-dim=sequence]", "5")
        run(page)
        page.wait_for_selector(".figures dt:text('first run of these sizes, on a plan with room')")

    def test_placement_groups_fused_nodes_and_filters(self, home: Open) -> None:
        page = home()
        load(page)
        assert page.is_hidden(".placement")
        run(page)
        assert "7 nodes became 2 steps. 1 node has no kernel yet" in page.inner_text(".placement")
        rows = page.locator(".placement tbody tr")
        assert rows.count() == 5 and page.locator(".strip rect").count() == 3
        assert "MatMul + Add + Gelu" in rows.nth(1).inner_text()
        page.click(".kinds button:text('reference')")
        assert rows.count() == 1 and "the shape depends on values" in rows.inner_text()
        page.click(".kinds button:text('all')")
        page.fill(".filter input", "GEMM")
        assert rows.count() == 1

    def test_steps_are_timed_and_their_kernels_shown(self, home: Open) -> None:
        page = home()
        load(page)
        run(page)
        page.click(".placement button:text('Time each step')")
        page.wait_for_selector(".placement :text('2.00 ms a run')")
        assert "80 %" in page.locator(".placement tbody tr").first.inner_text()
        page.locator(".placement tbody tr button").first.click()
        text = page.inner_text("dialog[open]")
        for part in (
            "f32_gemm_gelu_6x8__relaxed_fma_splat_u2",
            "k unroll 2",
            "(func $f32_gemm",
            "125.0 GFLOP/s",
        ):
            assert part in text
        # what tuning changed of its schedule is marked on both sides
        assert page.locator("dialog .steps .changed").all_inner_texts() == [
            "m tile 6",
            "k unroll 2",
            "m tile 4",
        ]
        page.keyboard.press("Escape")
        assert page.query_selector("dialog[open]") is None

    def test_each_missing_capability_has_a_fix(self, home: Open) -> None:
        page = home()
        page.wait_for_selector(".chip.no")
        has = page.inner_text("#caps").split()
        for name in ("isolation", "threads", "SIMD", "relaxed", "WebGPU"):
            assert name in has
        page.click(".chip.no:has-text('WebGPU')")
        assert "chrome://gpu" in page.inner_text("#caps-fix")
        page.click(".chip.no:has-text('WebGPU')")
        assert page.inner_text("#caps-fix") == ""

    def test_a_page_without_isolation_says_how_to_get_it(self, home: Open, page: Page) -> None:
        page.add_init_script("Object.defineProperty(globalThis, 'crossOriginIsolated', { value: false })")
        home()
        page.click(".chip.no:has-text('isolation')")
        text = page.inner_text("#caps-fix")
        assert (
            "Cross-Origin-Opener-Policy: same-origin" in text
            and "Cross-Origin-Embedder-Policy: require-corp" in text
        )
        assert page.is_visible(".chip.no:has-text('threads')")


class TestLinks:
    def test_a_link_opens_runs_and_is_copied_again(self, home: Open) -> None:
        page = home("?model=models/far.onnx&run=1&seed=7&dims=batch:2,sequence:16,height:8,width:8")
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.wait_for_selector(".output")
        assert fed(page, "ids")["dims"] == [2, 16] and fed(page, "image")["dims"] == [1, 3, 8, 8]
        seeded = total(page)
        page.click("#model button:text('Copy link')")
        page.wait_for_selector("#model button:text('Copied')")
        link = page.evaluate("navigator.clipboard.readText()")
        assert link.endswith("run=1&seed=7&dims=batch:2,sequence:16,height:8,width:8")
        page.goto(link)
        page.wait_for_selector(".output")
        assert total(page) == seeded

    def test_a_link_without_run_only_opens(self, home: Open) -> None:
        page = home("?model=models/far.onnx")
        page.wait_for_selector("#model:not([hidden])")
        assert page.evaluate("nnjit.log.runs") == 0

    def test_a_file_from_disk_has_no_link(self, home: Open) -> None:
        page = home()
        load(page)
        assert page.is_disabled("#model button:text('Copy link')")
