"""Trends, pruning and comparison in a real browser: the network that shrinks, linked views, links that are shared."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import Served, clean_page
from sample import SampleRun, Spec, write_run

from sauron_viz.figures.trends import CUTS

pytestmark = pytest.mark.browser

NETWORK = ".sauron-network[data-ready=yes]"
BAR = "document.querySelector('[data-layer={}] .sauron-network-bar').getAttribute('width')"


def width_of(page: Any, layer: str) -> float:
    return float(page.evaluate(BAR.format(layer)))


def test_the_network_shrinks_with_the_epochs(page: Any, dashboard: Served, runs: Path) -> None:
    page.goto(f"{dashboard.url}?run=rats&tab=pruning&epoch=12&layer=dec_conv_3")
    page.wait_for_selector(f"{NETWORK} [data-layer=dec_conv_3][aria-selected=true]")
    end = width_of(page, "dec_conv_3")
    slider = page.get_by_role("slider", name="Epoch")
    slider.focus()
    slider.press("Home")
    page.wait_for_selector(".sauron-network[data-epoch='1']")
    begin = width_of(page, "dec_conv_3")
    cuts = [json.loads(line) for line in (runs / "rats" / "prunings.jsonl").read_text().splitlines()]
    left = [cut["filters_after"] for cut in cuts if cut["layer"] == "dec_conv_3"][-1]
    first = next(cut["filters_before"] for cut in cuts if cut["layer"] == "dec_conv_3")
    assert end / begin == pytest.approx(left / first, rel=0.02)
    page.wait_for_function("location.search.includes('epoch=1&')")
    # The line in the charts goes with it, at once.
    page.wait_for_function("""[...document.querySelectorAll('.js-plotly-plot')].filter((p) => p.clientWidth)
      .every((p) => p.layout.shapes.some((s) => s.name === 'mark' && s.x0 === 1))""")


@pytest.mark.soak
def test_the_network_plays(page: Any, dashboard: Served) -> None:
    page.goto(f"{dashboard.url}?run=rats&tab=pruning&epoch=9")
    page.wait_for_selector(NETWORK)
    page.get_by_role("button", name="Play through epochs").click()
    page.wait_for_selector(".sauron-network[data-epoch='12']")
    page.wait_for_selector(".sauron-slider[data-playing=no][data-value='12'] >> visible=true")


@pytest.mark.soak
def test_a_block_leads_to_its_maps_and_its_trends(page: Any, dashboard: Served) -> None:
    page.goto(f"{dashboard.url}?run=rats&tab=pruning")
    page.wait_for_selector(NETWORK)
    page.locator("[data-layer=enc_conv_4]").click()
    page.wait_for_selector("h2:text-is('Decisions for enc_conv_4')")
    page.wait_for_selector("text=Encoder, level 2, convolution; epoch 12.")
    page.keyboard.press("Tab")
    page.locator("[data-layer=enc_conv_4]").focus()
    page.keyboard.press("ArrowUp")
    page.wait_for_selector("[data-layer=enc_conv_3][aria-selected=true]:focus")
    page.wait_for_selector("h2:text-is('Decisions for enc_conv_3')")
    page.locator(".sauron-strip button >> nth=1 >> visible=true").click()
    page.wait_for_selector(".sauron-grid[data-ready*='|enc_conv_3|']:not([data-selected='-1'])")
    page.get_by_role("tab", name="Pruning").click()
    page.get_by_role("button", name="Its trends").click()
    page.wait_for_selector("text=Thick: enc_conv_3. >> visible=true")


def test_the_network_is_coloured_by_any_measure_and_taken_away(page: Any, dashboard: Served) -> None:
    page.goto(f"{dashboard.url}?run=rats&tab=pruning&colour=dip")
    page.wait_for_selector(NETWORK)
    page.wait_for_selector(".sauron-network .sauron-scale >> text=Dip statistic:")
    page.get_by_label("Colour", exact=True).select_option("threshold")
    page.wait_for_selector(".sauron-network .sauron-scale >> text=Threshold τ:")
    page.wait_for_function("location.search.includes('colour=threshold')")
    with page.expect_download() as taken:
        page.get_by_role("button", name="Save the network as SVG").click()
    picture = Path(taken.value.path()).read_text()
    assert picture.startswith("<svg")
    assert all(f">{name}</text>" in picture for name in ("enc_conv_1", "dec_trans_2", "dec_conv_4"))
    assert not re.search(r'role="option"|class=', picture)
    with page.expect_download() as taken:
        page.get_by_role("button", name="Save the network as PNG").click()
    assert Path(taken.value.path()).read_bytes()[:4] == b"\x89PNG"


@pytest.mark.soak
def test_cuts_are_sorted_found_and_lead_to_their_place(page: Any, dashboard: Served, runs: Path) -> None:
    cuts = [json.loads(line) for line in (runs / "rats" / "prunings.jsonl").read_text().splitlines()]
    page.goto(f"{dashboard.url}?run=rats&tab=pruning&epoch=1")
    page.wait_for_selector(NETWORK)
    page.get_by_role("searchbox", name="Find cuts").fill(cuts[0]["layer"])
    page.get_by_role("button", name="Epoch", exact=True).click()
    table = page.locator(".sauron-datatable", has=page.locator("h2:text-is('Cuts')"))
    page.wait_for_function("""() => [...document.querySelectorAll('.sauron-datatable')]
      .some((card) => card.querySelector('h2').textContent === 'Cuts'
        && card.querySelector('th[aria-sort=ascending]') && Number(card.dataset.rows) > 0)""")
    first = table.locator("tbody tr").first
    assert cuts[0]["layer"] in first.inner_text()
    gone = cuts[0]["removed"][0]
    assert f"{gone['filter']} → {gone['nearest']} ({gone['distance']:.3f})" in first.inner_text()
    first.click()
    page.wait_for_function(f"location.search.includes('epoch={cuts[0]['epoch']}&')")
    page.wait_for_selector(f"h2:text-is('Decisions for {cuts[0]['layer']}')")
    with page.expect_download() as taken:
        table.get_by_role("button", name="Save Cuts as CSV").click()
    lines = Path(taken.value.path()).read_text().splitlines()
    assert len(lines) == 1 + sum(len(cut["removed"]) for cut in cuts)


def test_nothing_of_a_cut_becomes_markup(serve: Callable[..., Served], page: Any, tmp_path: Path) -> None:
    evil = "<img src=x onerror=document.title='gone'>"
    run = write_run(tmp_path / "evil", Spec(epochs=6, maps=False))
    lines = (run / "prunings.jsonl").read_text().splitlines()
    record = json.loads(lines[0]) | {"layer": evil}
    (run / "prunings.jsonl").write_text("\n".join([json.dumps(record), *lines[1:]]) + "\n")
    page.goto(f"{serve(tmp_path).url}?tab=pruning")
    page.wait_for_selector(f"text={evil}")
    assert page.locator("img[src=x]").count() == 0
    assert page.title() != "gone"


@pytest.mark.soak
def test_trends_in_all_three_forms_and_a_link_that_opens_them_again(
    page: Any, dashboard: Served, chromium: Any
) -> None:
    page.goto(f"{dashboard.url}?run=rats&tab=trends")
    page.wait_for_selector(".sauron-chart[data-traces='15']")
    chart = page.locator(".sauron-chart[data-traces='15']").first
    with page.expect_download() as taken:
        chart.get_by_role("button", name=re.compile("as CSV$")).click()
    table = Path(taken.value.path()).read_text()
    assert "\nenc_conv_1,1," in table
    assert CUTS not in table, "dots that mark cuts are no measure"
    page.get_by_text("Small multiples", exact=True).click()
    # A line for each of twelve layers, p1 and p2 of each, and its cuts.
    page.wait_for_selector(".sauron-chart[data-traces='48']")
    page.get_by_text("Each its own", exact=True).click()
    page.wait_for_selector(".sauron-chart[data-traces='48'][data-version='3']")
    page.get_by_text("Heat map", exact=True).click()
    page.wait_for_selector(".sauron-chart[data-traces='2']")
    page.get_by_label("Measure", exact=True).select_option("threshold")
    page.wait_for_selector("h2:text-is('Threshold τ')")
    table = page.locator(".sauron-changes")
    table.get_by_role("button", name="δ_opt").click()
    table.locator("th[aria-sort=descending]").wait_for()
    values = table.locator("tbody td:nth-child(4)").all_inner_texts()
    numbers = [float(value.removesuffix(" %").replace("−", "-")) for value in values]
    assert numbers == sorted(numbers, reverse=True)
    table.get_by_role("button", name="enc_conv_1", exact=True).click()
    page.wait_for_function("location.search.includes('layer=enc_conv_1')")
    with clean_page(chromium, color_scheme="dark") as other:
        other.goto(page.url)
        other.wait_for_selector("h2:text-is('Threshold τ')")
        other.wait_for_selector(".sauron-chart[data-traces='2']")
        assert other.locator("input[value=heat]").is_checked()
        other.wait_for_selector(".sauron-changes tr[data-id=enc_conv_1][aria-current]")


def test_runs_are_compared_as_ticked(page: Any, dashboard: Served, chromium: Any) -> None:
    page.goto(f"{dashboard.url}?tab=compare&with=rats&with=off")
    page.wait_for_selector(".sauron-chart[data-ready=yes] >> visible=true")
    rows = page.locator(".sauron-datatable", has=page.locator("h2:text-is('How they ended')")).locator("tbody tr")
    assert rows.count() == 2
    page.get_by_label("Compare kits", exact=True).check()
    page.wait_for_function("location.search.includes('with=kits')")
    page.wait_for_function("document.querySelectorAll('.sauron-datatable tbody')[0].children.length === 3")
    page.get_by_label("Curve", exact=True).select_option("flops")
    page.wait_for_selector("h2:text-is('FLOPs left') >> visible=true")
    slider = page.get_by_role("slider", name="Smoothing")
    slider.focus()
    slider.press("ArrowRight")
    page.wait_for_selector(".sauron-slider[data-value='3']")
    with page.expect_download() as taken:
        page.get_by_role("button", name="Save How they ended as LaTeX").click()
    latex = Path(taken.value.path()).read_text()
    assert "\\begin{tabular}" in latex
    assert "\\%" in latex


@pytest.mark.parametrize(
    ("tab", "width"),
    [
        ("compare", 420),
        *(
            pytest.param(tab, width, marks=pytest.mark.soak)
            for tab, width in (("trends", 420), ("pruning", 420), ("pruning", 820))
        ),
    ],
)
def test_narrow_screens_show_it_in_one_column(chromium: Any, dashboard: Served, tab: str, width: int) -> None:
    with clean_page(chromium) as page:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{dashboard.url}?run=rats&tab={tab}")
        page.wait_for_selector(".sauron-chart[data-ready=yes] >> visible=true")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.soak
def test_a_legend_of_many_lines_takes_nothing_from_the_plot(
    serve: Callable[..., Served], chromium: Any, tmp_path: Path
) -> None:
    for epochs in range(1, 13):
        write_run(tmp_path / f"run-{epochs}", Spec(epochs=epochs, maps=False))
    url = f"{serve(tmp_path).url}?tab=compare"
    heights = []
    for query in ("&with=run-1&with=run-2", ""):
        with clean_page(chromium) as page:
            page.set_viewport_size({"width": 820, "height": 900})
            page.goto(f"{url}{query}")
            page.wait_for_selector(".sauron-chart[data-ready=yes] >> visible=true")
            plot = page.locator(".sauron-plot >> visible=true").first
            heights.append(plot.evaluate("(plot) => [plot._fullLayout._size.h, plot.clientHeight]"))
    (few, low), (many, high) = heights
    assert many == pytest.approx(few, abs=3)
    assert high > low + 30


def test_every_panel_follows_a_run_that_grows(serve: Callable[..., Served], page: Any, tmp_path: Path) -> None:
    run = SampleRun(tmp_path / "live", Spec(every=2)).run(until=5)
    page.goto(f"{serve(tmp_path).url}?tab=pruning")
    page.wait_for_selector(".sauron-status.running >> text=live")
    page.wait_for_selector(".sauron-network[data-epoch='5']")
    run.step()
    page.wait_for_selector(".sauron-network[data-epoch='6']")
    page.wait_for_selector("text=epoch 6.")
    for tab, seen in (("Layer trends", ".sauron-changes tbody tr"), ("Compare", "h2:text-is('How they ended')")):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_selector(f"{seen} >> visible=true")
        chart = page.locator(".sauron-chart[data-ready=yes] >> visible=true").first
        chart.wait_for()
        drawn = int(chart.get_attribute("data-version"))
        run.step()
        page.wait_for_function(
            """(drawn) => [...document.querySelectorAll('.sauron-chart')]
              .some((card) => card.clientWidth && card.dataset.version > drawn)""",
            arg=drawn,
        )
    run.writer.finish("finished")
    page.wait_for_selector(".sauron-status.finished >> visible=true")
