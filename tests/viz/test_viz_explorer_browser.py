"""The explorer in a real browser: orders, thresholds, the matrix, two grids, and what can be taken away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import Served, barriers, clean_page

# Tabs in the order of the page, each with what is there once it is drawn.
DRAWN = {
    "Map": "text=(pinned)",
    "Distances": ".sauron-matrix[data-ready*='|']",
    "What would go?": ".sauron-outlook [data-name=FLOPs]",
    "Result": ".sauron-quad .sauron-image[data-ready=yes]",
    "Your image": "text=No weights of run kits are kept",
    "Layer trends": "h2:text-is('Change of clusterability')",
    "Pruning": ".sauron-network[data-ready=yes]",
    "Compare": "h2:text-is('How they ended')",
}
SEEN_ALWAYS = ("Map", "Compare")
pytestmark = pytest.mark.browser

GRID = ".sauron-grid[data-ready*='|']"
CANVAS = ".sauron-grid-canvas >> nth=0"
PIXELS = """() => {
  const canvas = document.querySelector('.sauron-grid-canvas');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let sum = 0;
  for (let i = 0; i < data.length; i += 4) sum = (sum * 31 + data[i] + 7 * data[i + 1] + 13 * data[i + 2]) % 2147483647;
  return sum;
}"""


def open_run(page: Any, served: Served, query: str) -> None:
    page.goto(f"{served.url}?{query}")
    page.wait_for_selector(GRID)


def changed(page: Any, before: int) -> int:
    page.wait_for_function(f"({PIXELS})() !== {before}")
    return int(page.evaluate(PIXELS))


@pytest.mark.soak
def test_orders_and_removed_filters(page: Any, dashboard: Served) -> None:
    open_run(page, dashboard, "run=rats&layer=enc_conv_6")
    grid = page.locator(GRID).first
    cells, maps = int(grid.get_attribute("data-cells")), int(grid.get_attribute("data-maps"))
    assert cells == 32 > maps
    picture = page.evaluate(PIXELS)
    for order in ("clusters", "reference", "variance"):
        page.get_by_label("Order").select_option(order)
        picture = changed(page, picture)
    page.get_by_text("Hidden").click()
    page.wait_for_selector(f".sauron-grid[data-cells='{maps}']")
    page.get_by_text("Shown").click()
    page.wait_for_selector(f".sauron-grid[data-cells='{cells}']")
    page.get_by_label("Order").select_option("number")
    page.focus(CANVAS)
    page.press(CANVAS, "Home")
    page.press(CANVAS, "End")
    page.wait_for_selector(".sauron-grid[data-selected='31']")
    page.wait_for_selector(".sauron-strip button")
    # The strip may still be that of the map before, whose clicks do not count any more.
    page.wait_for_function(
        """() => {
          document.querySelector('.sauron-strip button')?.click();
          return document.querySelector('.sauron-grid').dataset.selected !== '31';
        }""",
        polling=500,
    )


@pytest.mark.soak
def test_the_epochs_play(page: Any, dashboard: Served) -> None:
    open_run(page, dashboard, "run=rats&epoch=1")
    page.get_by_role("button", name="Play through epochs").click()
    for epoch in (4, 8, 12):
        page.wait_for_selector(f".sauron-grid[data-ready$='|{epoch}']")
    page.wait_for_selector(".sauron-slider[data-playing=no]")


def test_a_threshold_strikes_maps_out_and_tells_what_it_saves(page: Any, dashboard: Served) -> None:
    open_run(page, dashboard, "run=rats&layer=enc_conv_6")
    page.get_by_role("tab", name="What would go?").click()
    page.wait_for_selector(".sauron-outlook [data-name=FLOPs]")
    slider = page.get_by_role("slider", name="Threshold τ")
    slider.focus()
    slider.press("Home")
    page.wait_for_selector(".sauron-outlook[data-step='0']")
    before, picture = flops(page), page.evaluate(PIXELS)
    slider.press("End")
    page.wait_for_selector(".sauron-outlook[data-step='260']")
    assert flops(page) < before
    changed(page, picture)
    page.get_by_text("All layers").click()
    page.wait_for_selector(".sauron-outlook [data-name=Filters]")
    assert flops(page) < before / 2
    page.get_by_role("tab", name="Map", exact=True).click()
    page.wait_for_function(f"({PIXELS})() === {picture}")


def flops(page: Any) -> float:
    return float(page.get_attribute(".sauron-outlook [data-name=FLOPs]", "data-value"))


def test_the_matrix_chooses_marks_and_saves(page: Any, dashboard: Served, tmp_path: Path) -> None:
    open_run(page, dashboard, "run=rats&layer=enc_conv_6")
    page.get_by_role("tab", name="Distances").click()
    page.wait_for_selector(".sauron-matrix[data-ready*='|']")
    matrix = page.locator(".sauron-matrix-canvas")
    box = matrix.bounding_box()
    matrix.click(position={"x": box["width"] * 0.9, "y": box["height"] * 0.1})
    page.wait_for_function("document.querySelector('.sauron-grid').dataset.selected !== ''")
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.4, steps=4)
    page.mouse.up()
    page.wait_for_function("Number(document.querySelector('.sauron-matrix').dataset.marked) > 2")
    matrix.focus()
    matrix.press("ArrowRight")
    assert "apart" in page.inner_text(".sauron-matrix .sauron-live")
    matrix.press("Enter")
    page.wait_for_selector(".sauron-matrix[data-marked='0']")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save all distances as CSV").click()
    saved.value.save_as(tmp_path / "d.csv")
    lines = (tmp_path / "d.csv").read_text().splitlines()
    assert lines[0].startswith("filter,")
    assert len(lines) == len(lines[0].split(","))


def test_two_grids_are_linked_by_the_numbers_of_filters(page: Any, dashboard: Served) -> None:
    open_run(page, dashboard, "run=rats")
    page.get_by_label("Compare with").select_option("run:off")
    page.wait_for_selector(".sauron-grid[data-ready^='off|']")
    page.locator(".sauron-grid-canvas").nth(1).click(position={"x": 30, "y": 30})
    page.wait_for_selector(".sauron-grid[data-ready^='off|'][data-selected='0']")
    page.wait_for_selector(".sauron-grid[data-ready^='rats|'][data-selected='0']")
    page.get_by_label("Compare with").select_option("run:bare")
    page.wait_for_selector("text=run bare holds no feature maps")


@pytest.mark.parametrize("kind", ["PNG", pytest.param("SVG", marks=pytest.mark.soak), "CSV"])
def test_the_grid_can_be_taken_away(page: Any, dashboard: Served, tmp_path: Path, kind: str) -> None:
    open_run(page, dashboard, "run=rats")
    what = "the numbers of all maps" if kind == "CSV" else "all maps"
    with page.expect_download() as saved:
        page.get_by_role("button", name=f"Save {what} as {kind}").click()
    name = saved.value.suggested_filename
    assert name.endswith(f".{kind.lower()}")
    assert "dec_conv_3" in name
    path = tmp_path / name
    saved.value.save_as(path)
    content = path.read_bytes()
    if kind == "PNG":
        assert content.startswith(b"\x89PNG")
    elif kind == "SVG":
        assert b"Run rats, Rats, image rat_031" in content
        assert content.count(b"<image") >= 6
    else:
        assert content.decode().splitlines()[0].startswith("filter,low,high,variance,distance_to_reference")


def test_label_prediction_and_errors_are_drawn(page: Any, dashboard: Served) -> None:
    open_run(page, dashboard, "run=rats")
    page.get_by_role("tab", name="Result").click()
    for name in ("Label", "Prediction, epoch 12", "Errors"):
        page.wait_for_selector(f"figcaption:text-is('{name}')")
    assert page.locator(".sauron-quad .sauron-image[data-ready=yes]").count() == 4


@pytest.fixture
def own(root: Path, serve: Callable[..., Served]) -> Served:
    """A served run with weights, which a test may add to."""
    return serve(root)


def test_an_image_is_sent_explored_and_saved(own: Served, page: Any, root: Path, image: Path) -> None:
    open_run(page, own, "run=small")
    page.get_by_role("tab", name="Your image").click()
    field = page.get_by_label("Your image")
    field.set_input_files({"name": "picture.png", "mimeType": "image/png", "buffer": b"x"})
    page.wait_for_selector("text=picture.png is no NIfTI file by its name")
    field.set_input_files(image)
    page.wait_for_selector(".sauron-own progress >> visible=true")
    assert barriers(page) == []
    page.wait_for_selector(".sauron-origin >> text=Not saved")
    page.wait_for_selector(".sauron-grid[data-ready^='small: phantom_']")
    assert barriers(page) == []
    page.get_by_label("Save as a run named").first.fill("mine")
    page.get_by_role("button", name="Save", exact=True).first.click()
    page.wait_for_selector(".sauron-grid[data-ready^='mine|']")
    assert (root / "mine" / "run.json").is_file()


def test_a_cut_is_tried_and_compared(own: Served, page: Any) -> None:
    open_run(page, own, "run=small")
    page.get_by_role("tab", name="What would go?").click()
    slider = page.get_by_role("slider", name="Threshold τ")
    slider.press("End")
    page.get_by_role("button", name="Try it: cut").click()
    page.wait_for_selector("button:text-is('Cancel') >> visible=true")
    page.wait_for_selector("figcaption:has-text('After: 0.')")
    assert page.locator("table:has-text('merged') tbody tr").count() == 1
    page.get_by_label("Compare with").select_option("run:small cut 1")
    page.wait_for_selector(".sauron-grid[data-ready^='small cut 1|']")
    page.get_by_role("button", name="Explore it").click()
    page.wait_for_selector(".sauron-origin >> text=Not saved")
    page.get_by_role("button", name="Throw away").first.click()
    page.wait_for_selector(".sauron-origin", state="hidden")
    page.wait_for_selector(".sauron-select[data-value='small']")


@pytest.mark.parametrize(
    "tabs",
    [
        ("Map", "Compare"),
        pytest.param(tuple(tab for tab in DRAWN if tab not in ("Map", "Compare")), marks=pytest.mark.soak),
    ],
    ids=len,
)
def test_axe_finds_nothing_wrong(chromium: Any, dashboard: Served, tabs: tuple[str, ...]) -> None:
    # Volumes have the most on the page: slices, and three planes of a map.
    with clean_page(chromium, color_scheme="light") as page:
        open_run(page, dashboard, "run=kits")
        page.press(CANVAS, "Home")
        page.get_by_role("button", name="Pin filter").click()
        page.press(CANVAS, "End")
        page.wait_for_selector("text=(pinned)")
        page.get_by_label("Compare with").select_option("epoch:3")
        for tab in (name for name in DRAWN if name in tabs):
            drawn = DRAWN[tab]
            page.get_by_role("tab", name=tab, exact=True).click()
            page.wait_for_selector(f"{drawn} >> visible=true")
            assert barriers(page) == [], tab
            # A dark page has other colours, and nothing else that is other.
            page.emulate_media(color_scheme="dark")
            assert barriers(page, "color-contrast") == [], tab
            page.emulate_media(color_scheme="light")


def test_all_of_it_works_by_keyboard(page: Any, dashboard: Served) -> None:
    open_run(page, dashboard, "run=kits&layer=enc_conv_2")
    picture = page.evaluate(PIXELS)
    tab_to(page, "Layer")
    tab_to(page, "Order")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    picture = changed(page, picture)
    tab_to(page, "Epoch")
    page.keyboard.press("Home")
    page.wait_for_selector(".sauron-grid[data-ready$='|1']")
    tab_to(page, "Slice")
    before = page.get_attribute(GRID, "data-ready")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"!['none', '{before}'].includes(document.querySelector('.sauron-grid').dataset.ready)")
    tab_to(page, "Maps of enc_conv_2")
    page.keyboard.press("End")
    page.wait_for_selector(".sauron-strip button")
    tab_to(page, "Map")
    for card, seen, controls in (
        ("Distances", ".sauron-matrix[data-ready*='|']", {"Save all distances as CSV"}),
        ("What would go?", ".sauron-outlook [data-name=FLOPs]", {"Threshold τ", "Merged"}),
        ("Result", ".sauron-quad canvas", set()),
        ("Your image", "text=No weights of run kits are kept", set()),
    ):
        page.keyboard.press("ArrowRight")
        page.wait_for_selector(f"[role=tab][aria-selected=true]:text-is('{card}')")
        page.wait_for_selector(f"{seen} >> visible=true")
        page.wait_for_selector("button:text('Pin filter')", state="hidden")
        assert controls <= set(names_from_here(page))
        page.get_by_role("tab", name=card).focus()


NAME_OF_FOCUS = """() => {
  const node = document.activeElement;
  return node.getAttribute('aria-label') || node.labels?.[0]?.textContent || node.textContent.trim();
}"""


def tab_to(page: Any, name: str) -> None:
    """Go on with the Tab key until something of that name has the focus."""
    for _ in range(150):
        page.keyboard.press("Tab")
        if page.evaluate(NAME_OF_FOCUS).startswith(name):
            return
    raise AssertionError(f"the Tab key never comes to {name}")


def names_from_here(page: Any) -> list[str]:
    """What the Tab key comes to next."""
    names = []
    for _ in range(12):
        page.keyboard.press("Tab")
        names.append(page.evaluate(NAME_OF_FOCUS))
    return names
