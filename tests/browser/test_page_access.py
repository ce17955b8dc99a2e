"""The page for everybody: by keys alone, on a phone, in both themes, with enough contrast, without motion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .page_flows import TOO_WIDE, Open, load, model, run

if TYPE_CHECKING:
    from playwright.sync_api import FileChooser, Page

# Text nodes that are seen, with the contrast of their colour against what lies behind (WCAG 2, relative luminance).
CONTRASTS = """() => {
  const ink = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (css) => {
    ink.clearRect(0, 0, 1, 1);
    ink.fillStyle = css;
    ink.fillRect(0, 0, 1, 1);
    return ink.getImageData(0, 0, 1, 1).data;
  };
  const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgb(getComputedStyle(document.documentElement).backgroundColor);
  };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.checkVisibility()) continue;
    if (e.closest('.sr, .skip, :disabled, script, option')) continue;
    const [a, b] = [luminance(rgb(getComputedStyle(e).color)), luminance(behind(e))].sort((x, y) => y - x);
    found.push([walk.currentNode.data.trim().slice(0, 40), (a + 0.05) / (b + 0.05)]);
  }
  return found;
}"""


# What somebody who listens to the page would miss: headings in order, captions of tables, names of controls.
UNTOLD = """() => {
  const seen = (selector) => [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility());
  const levels = seen('h1, h2, h3, h4').map((e) => Number(e.tagName[1]));
  const jumps = levels.filter((level, i) => i && level > levels[i - 1] + 1).map((level) => `h${level} leaves one out`);
  const tables = seen('table').filter((e) => !e.caption).map((e) => e.outerHTML.slice(0, 80));
  const named = (e) => e.getAttribute('aria-label') || [...(e.labels ?? [])].map((l) => l.textContent).join('')
    || (e.matches('input, select, textarea') ? '' : e.textContent.trim());
  const controls = seen('a, button, input, select, textarea, summary, [role=button]').filter((e) => !named(e));
  const titles = levels.filter((level) => level === 1).length === 1 ? [] : ['not one h1'];
  return [...titles, ...jumps, ...tables, ...controls.map((e) => e.outerHTML.slice(0, 80))];
}"""


def fill_everything(page: Page) -> None:
    """Every panel with something in it: a run, times, a comparison, a failure, a fix."""
    load(page)
    run(page)
    page.click(".latency button")
    page.wait_for_function("document.querySelector('.latency button').textContent.startsWith('Run')")
    page.click(".placement button:text('Time each step')")
    page.wait_for_selector(".placement .share")
    page.click(".check button")
    page.wait_for_selector(".check .answer")
    page.click(".chip.no")
    page.set_input_files("#file", model("broken.onnx"))
    page.wait_for_selector(".failure")
    page.click(".failure summary")


@pytest.mark.parametrize("width", [320, 360, 390])
def test_nothing_sticks_out_on_a_phone(home: Open, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    home()
    assert page.evaluate(TOO_WIDE) == []
    fill_everything(page)
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_enough_contrast(home: Open, page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    home()
    fill_everything(page)
    found = page.evaluate(CONTRASTS)
    assert len(found) > 80
    assert [(text, round(ratio, 2)) for text, ratio in found if ratio < 4.5] == []


def test_everything_is_told_to_who_listens(home: Open, page: Page) -> None:
    home()
    assert page.evaluate(UNTOLD) == []
    fill_everything(page)
    assert page.evaluate(UNTOLD) == []
    page.evaluate("document.querySelectorAll('.placement caption, #model-title').forEach((e) => e.remove())")
    assert len(page.evaluate(UNTOLD)) == 2


def test_the_theme_button_goes_round_and_is_remembered(home: Open, page: Page) -> None:
    page.emulate_media(color_scheme="light")
    home()
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.click("#theme")
    assert page.evaluate(colour) == light
    page.click("#theme")
    dark = page.evaluate(colour)
    assert dark != light and page.get_attribute("#theme", "aria-label") == "Colours: dark. Change"
    page.reload()
    page.wait_for_selector("#samples li")
    assert page.evaluate(colour) == dark
    page.click("#theme")
    assert page.evaluate(colour) == light


def test_no_motion_where_none_is_wanted(home: Open, page: Page) -> None:
    moving = """() => [...document.querySelectorAll('*')].filter((e) => {
      const s = getComputedStyle(e);
      return s.animationName !== 'none' || s.transitionDuration.split(',').some((t) => parseFloat(t) > 0);
    }).length"""
    page.emulate_media(reduced_motion="no-preference")
    home()
    assert page.evaluate(moving) > 0
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(moving) == 0


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))


def tab_to(page: Page, wanted: str) -> None:
    """Presses Tab until the element is reached, and sees that the focus shows."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if focused(page) == wanted:
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"the focus on {wanted} does not show"
            return
    raise AssertionError(f"Tab never came to {wanted}")


def test_a_model_is_opened_run_and_closed_by_keys_alone(home: Open, page: Page) -> None:
    home()
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the page"
    page.keyboard.press("Enter")
    assert focused(page) == "main"
    # Listening from the start: interception that is asked for just before the key may come too late.
    choosers: list[FileChooser] = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    for key in ("Enter", " "):
        page.focus("#theme")
        tab_to(page, "drop")
        with page.expect_file_chooser():
            page.keyboard.press(key)
        choosers.pop().set_files([model()] if key == " " else [])  # type: ignore[list-item]
    page.wait_for_selector("#model:not([hidden])")
    page.wait_for_function("document.activeElement.id === 'model-title'")
    tab_to(page, "Run")
    page.keyboard.press("Enter")
    page.wait_for_selector(".output")
    page.wait_for_selector(".inputs .primary:not([disabled])")
    tab_to(page, "MatMul + Add + Gelu")
    page.keyboard.press("Enter")
    assert page.is_visible("dialog[open]")
    page.keyboard.press("Escape")
    assert focused(page) == "MatMul + Add + Gelu"
    page.focus("#model-title")
    tab_to(page, "Close")
    page.keyboard.press("Enter")
    assert page.is_hidden("#model") and focused(page) == "drop"


def test_every_control_has_a_name(home: Open, page: Page) -> None:
    home()
    fill_everything(page)
    controls = "button, input, select, textarea, [role=button], svg[role=img]"
    nameless = page.evaluate(
        """(controls) => [...document.querySelectorAll(controls)]
      .filter((e) => e.checkVisibility() && e.type !== 'file')
      .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length))
      .map((e) => e.outerHTML.slice(0, 120))""",
        controls,
    )
    assert nameless == []


def test_stages_and_results_are_announced(home: Open, page: Page) -> None:
    home()
    page.evaluate("""() => {
      window.said = [];
      const changes = { childList: true, characterData: true, subtree: true };
      new MutationObserver(() => said.push(live.textContent)).observe(live, changes);
    }""")
    load(page)
    page.wait_for_function("said.includes('tiny.onnx is open')")
    assert "Fetch the model" in page.evaluate("said")
