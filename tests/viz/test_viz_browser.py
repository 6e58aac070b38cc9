"""The dashboard as its users meet it: `sauron-viz serve` in a real browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import Served, clean_page
from sample import SampleRun, Spec, write_run

pytestmark = pytest.mark.browser

GRID = ".sauron-grid[data-ready*='|']"
CANVAS = ".sauron-grid-canvas"
CHART = ".sauron-chart[data-ready=yes] >> visible=true"
PIXELS = """() => {
  const canvas = document.querySelector('.sauron-grid-canvas');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let sum = 0; const seen = new Set();
  for (let i = 0; i < data.length; i += 4) {
    sum = (sum * 31 + data[i] + 7 * data[i + 1] + 13 * data[i + 2]) % 2147483647;
    seen.add(data[i] * 65536 + data[i + 1] * 256 + data[i + 2]);
  }
  return [sum, seen.size];
}"""


def open_run(page: Any, served: Served, query: str) -> None:
    page.goto(f"{served.url}?{query}")
    page.wait_for_selector(GRID)


def test_maps_are_drawn_and_follow_the_keyboard(page: Any, dashboard: Served) -> None:
    open_run(page, dashboard, "run=rats")
    before, colours = page.evaluate(PIXELS)
    assert colours > 50
    assert page.get_attribute(GRID, "data-ready").endswith("|12")
    slider = page.get_by_role("slider", name="Epoch")
    slider.focus()
    slider.press("ArrowLeft")
    page.wait_for_selector(".sauron-grid[data-ready$='|8']")
    assert page.evaluate(PIXELS)[0] != before
    assert page.locator("h2", has_text="epoch 8").count() == 1


@pytest.mark.soak
def test_fast_steps_of_the_slider_are_all_taken_and_never_undone(
    serve: Callable[..., Served], page: Any, tmp_path: Path
) -> None:
    SampleRun(tmp_path / "many", Spec(every=1, epochs=12)).run().writer.finish("finished")
    open_run(page, serve(tmp_path), "run=many")
    page.evaluate("""() => {
      const box = document.querySelector('.sauron-slider[data-value="12"]');
      window.steps = [];
      const note = () => window.steps.push(Number(box.dataset.value));
      new MutationObserver(note).observe(box, { attributeFilter: ['data-value'] });
    }""")
    slider = page.get_by_role("slider", name="Epoch")
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    # The address is written by the kernel, once it has caught up.
    page.wait_for_function("location.search.includes('epoch=2')")
    page.wait_for_selector(".sauron-grid[data-ready$='|2']")
    page.get_by_label("Layer", exact=True).select_option("enc_conv_2")
    page.wait_for_selector(".sauron-grid[data-ready*='|enc_conv_2|'][data-ready$='|2']")
    steps = page.evaluate("window.steps")
    assert steps[-1] == 2
    assert steps == sorted(steps, reverse=True)


@pytest.mark.soak
def test_a_run_trained_again_is_drawn_again(serve: Callable[..., Served], page: Any, tmp_path: Path) -> None:
    run, again = tmp_path / "runs" / "demo", tmp_path / "again"
    write_run(run, Spec(epochs=4))
    write_run(again, Spec(epochs=4, seed=8, created="2024-05-01T09:30:00+00:00"))
    open_run(page, serve(tmp_path / "runs"), "run=demo")
    before = page.evaluate(PIXELS)[0]
    shutil.rmtree(run)
    again.rename(run)
    page.wait_for_selector(".sauron-grid[data-ready*='T09:30:00'][data-ready$='|4']")
    assert page.evaluate(PIXELS)[0] != before


def test_a_click_and_the_arrow_keys_tell_a_maps_numbers(page: Any, dashboard: Served) -> None:
    open_run(page, dashboard, "run=rats&epoch=1")
    page.click(CANVAS, position={"x": 30, "y": 30})
    page.wait_for_selector(".sauron-grid[data-selected='0']")
    assert "Filter 0 (the reference)" in page.inner_text(".sauron-live")
    page.press(CANVAS, "ArrowRight")
    page.wait_for_selector(".sauron-grid[data-selected='1']")
    said = page.inner_text(".sauron-live")
    for word in ("Filter 1", "values", "δ to the reference", "nearest filter", "δ_prune"):
        assert word in said
    page.wait_for_selector("figcaption:text-is('Filter 1 over rat_031')")
    assert "filter=1" in page.evaluate("location.search")
    page.hover(CANVAS, position={"x": 30, "y": 30})
    assert page.is_visible(".sauron-tip")


def test_fast_steps_over_the_maps_are_all_taken_and_never_undone(page: Any, dashboard: Served) -> None:
    # A kernel that is a little behind, as on a busy server: each answer comes when the reader has already gone on.
    page.add_init_script("""
      window.WebSocket = class extends window.WebSocket {
        set onmessage(take) { super.onmessage = (event) => setTimeout(() => take(event), 300); }
      };
    """)
    open_run(page, dashboard, "run=rats&epoch=1&card=distances")
    page.get_by_label("Compare with").select_option("run:off")
    page.wait_for_selector(".sauron-grid[data-ready^='off|']")
    page.evaluate("""() => {
      const grid = document.querySelector('.sauron-grid');
      window.chosen = [];
      const note = () => grid.dataset.selected === window.chosen.at(-1) || window.chosen.push(grid.dataset.selected);
      new MutationObserver(note).observe(grid, { attributeFilter: ['data-selected'] });
    }""")
    maps = page.locator(CANVAS).first
    maps.press("Home")
    for _ in range(5):
        page.wait_for_timeout(20)
        maps.press("ArrowRight")
    page.wait_for_function("location.search.includes('filter=5')")
    page.wait_for_selector(".sauron-grid[data-ready^='off|'][data-selected='5']")
    assert page.evaluate("window.chosen") == ["0", "1", "2", "3", "4", "5"]


def test_the_tip_of_a_map_goes_when_other_maps_come(page: Any, dashboard: Served) -> None:
    open_run(page, dashboard, "run=rats&epoch=12")
    page.hover(CANVAS, position={"x": 30, "y": 30})
    assert page.is_visible(".sauron-tip")
    slider = page.get_by_role("slider", name="Epoch")
    slider.focus()
    slider.press("ArrowLeft")
    page.wait_for_selector(".sauron-grid[data-ready$='|8']")
    assert not page.is_visible(".sauron-tip")


def test_whole_layer_scale_changes_the_picture(page: Any, dashboard: Served) -> None:
    open_run(page, dashboard, "run=rats")
    before = page.evaluate(PIXELS)[0]
    page.get_by_text("All maps", exact=True).click()
    page.wait_for_function(f"({PIXELS})()[0] !== {before}")


def test_the_outlines_over_the_image_can_be_taken_away(page: Any, dashboard: Served) -> None:
    open_run(page, dashboard, "run=rats")
    page.wait_for_selector(".sauron-image[data-outlines=yes]")
    page.get_by_role("checkbox", name="Outlines").uncheck()
    page.wait_for_selector(".sauron-image[data-outlines=no]")


def test_slices_of_a_volume(page: Any, dashboard: Served) -> None:
    open_run(page, dashboard, "run=kits")
    before = page.get_attribute(GRID, "data-ready")
    slider = page.get_by_label("Slice", exact=True)
    slider.focus()
    slider.press("ArrowRight")
    page.wait_for_function(f"document.querySelector({json.dumps(GRID)})?.dataset.ready !== {json.dumps(before)}")
    page.get_by_role("group", name="Slice along").get_by_text("3").click()
    page.wait_for_selector(".sauron-grid[data-ready*='|2@']")


def test_tabs_share_the_layer_and_charts_are_drawn(page: Any, dashboard: Served) -> None:
    open_run(page, dashboard, "run=rats")
    page.get_by_label("Layer", exact=True).select_option("enc_conv_2")
    page.wait_for_selector(".sauron-grid[data-ready*='|enc_conv_2|']")
    tab = page.get_by_role("tab", name="Feature maps")
    tab.focus()
    tab.press("ArrowRight")
    page.wait_for_selector(CHART)
    card = page.locator(".sauron-chart").first
    # One line per layer, the two means of the chosen one, and the cuts.
    assert card.get_attribute("data-traces") == "15"
    page.get_by_role("button", name="Transposed").click()
    page.wait_for_selector(".sauron-chart[data-traces='3']")
    page.get_by_role("tab", name="Pruning").click()
    page.wait_for_selector(".sauron-network [data-layer=enc_conv_2][aria-selected=true]")
    page.wait_for_selector("h2:text-is('Decisions for enc_conv_2')")
    page.wait_for_function("document.querySelectorAll('.sauron-chart[data-ready=yes]').length === 5")
    assert page.locator("table.sauron-data tbody tr >> visible=true").count() > 3
    assert "tab=pruning" in page.evaluate("location.search")


@pytest.mark.soak
def test_a_click_beside_the_lines_of_a_chart_chooses_the_epoch(page: Any, dashboard: Served) -> None:
    open_run(page, dashboard, "run=rats")
    page.get_by_role("tab", name="Pruning").click()
    page.wait_for_selector(CHART)
    plot = page.locator(".sauron-chart", has_text="Cost and quality").locator(".sauron-plot")
    size = plot.bounding_box()
    # Not in the first of the plots that lie on top of each other, either.
    plot.click(position={"x": 0.38 * size["width"], "y": 0.4 * size["height"]})
    page.wait_for_function("location.search.includes('epoch=4')")
    page.wait_for_selector(".sauron-network[data-epoch='4']")


@pytest.mark.soak
def test_the_csv_of_a_chart_is_named_after_its_axes(page: Any, dashboard: Served) -> None:
    open_run(page, dashboard, "run=rats")
    page.get_by_role("tab", name="Pruning").click()
    page.wait_for_function("document.querySelectorAll('.sauron-chart[data-ready=yes]').length === 3")
    taken = []
    for title in ("Cost and quality, epoch by epoch", "Filters left, layer by layer", "the network"):
        with page.expect_download() as caught:
            page.get_by_role("button", name=f"Save {title} as CSV").click()
        taken.append(Path(caught.value.path()).read_text().splitlines()[:2])
    assert taken[0] == ["series,epoch,value", "Left of the network (%): FLOPs,0,100"]
    assert taken[1][0] == "series,epoch,layer,value"
    assert taken[2][0] == 'layer,level,filters_at_start,filters,"Filters left, share"'


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("run=damaged", "is damaged"),
        ("run=bare", "has not stored feature maps yet"),
        ("run=off&tab=pruning", "Pruning is switched off"),
        ("run=broken", "Training failed: CUDA out of memory"),
    ],
)
def test_what_is_missing_is_said(page: Any, dashboard: Served, query: str, words: str) -> None:
    page.goto(f"{dashboard.url}?{query}")
    page.wait_for_selector(f"text={words} >> visible=true")


def test_an_empty_folder_and_then_a_run_that_grows(serve: Callable[..., Served], page: Any, tmp_path: Path) -> None:
    served = serve(tmp_path)
    page.goto(served.url)
    page.wait_for_selector("text=No runs to show")
    run = SampleRun(tmp_path / "live", Spec(every=1)).run(until=1)
    page.wait_for_selector(".sauron-grid[data-ready$='|1']")
    assert page.get_attribute(".sauron-status", "data-status") == "running"
    run.step()
    page.wait_for_selector(".sauron-grid[data-ready$='|2']")
    page.wait_for_selector(".sauron-numbers[data-epoch='2']")
    run.writer.finish("finished")
    page.wait_for_selector(".sauron-status[data-status=finished]")


@pytest.mark.soak
def test_a_lost_session_is_said(page: Any, dashboard: Served) -> None:
    open_run(page, dashboard, "run=rats")
    page.evaluate("fetch(`/voila/api/shutdown/${document.body.dataset.kernelId}`, { method: 'POST' })")
    page.wait_for_selector("text=Session lost")


@pytest.mark.soak
def test_every_view_opens_by_itself(chromium: Any, serve: Callable[..., Served], runs: Path) -> None:
    for view, ready in (("layer_trends", CHART), ("quickstart", GRID)):
        served = serve(runs, view)
        with clean_page(chromium, color_scheme="dark") as page:
            page.goto(f"{served.url}?run=rats")
            page.wait_for_selector(ready)
        served.stop()


def test_every_control_has_a_name_and_the_page_one_column_when_narrow(page: Any, dashboard: Served) -> None:
    page.set_viewport_size({"width": 480, "height": 900})
    open_run(page, dashboard, "run=rats")
    nameless = page.evaluate("""() => [...document.querySelectorAll('.sauron input, .sauron select, .sauron button')]
      .filter((n) => !n.labels?.length && !n.textContent.trim() && !n.getAttribute('aria-label')).length""")
    assert nameless == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 480
