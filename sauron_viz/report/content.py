"""What a report says: how runs ended, side by side, and how each of them came there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from sauron_train.errors import RunError, SauronError
from sauron_train.runlog import find_runs
from sauron_viz.figures import (
    dice_against_flops,
    grid_of,
    layer_heat,
    measure,
    measure_lines,
    measures,
    progress_lines,
)
from sauron_viz.figures.compare import CURVES, comparison
from sauron_viz.groups import group_runs
from sauron_viz.report.page import Page
from sauron_viz.runs import Library, RunView, default_layer
from sauron_viz.summaries import Summary, summarise
from sauron_viz.widgets.base import esc
from sauron_viz.widgets.changes import CHANGES_NOTE, COLUMNS, change_rows
from sauron_viz.widgets.chart import PlotlyChart, PlotlyLib
from sauron_viz.widgets.compare import END_COLUMNS, curves_note, end_rows, ends_note
from sauron_viz.widgets.controls import Slider
from sauron_viz.widgets.cuts import cut_rows, cuts_csv, cuts_table
from sauron_viz.widgets.header import key_numbers
from sauron_viz.widgets.network import Network, colour_network, show_network
from sauron_viz.widgets.overview import SCATTER_NOTE, overview_rows, overview_table
from sauron_viz.widgets.pruning import NETWORK_NOTE, PROGRESS_NOTE, told_cuts
from sauron_viz.widgets.table import DataTable
from sauron_viz.words import STATUS, duration

_TRENDS = ("delta_opt", "dip", "neighbours_share")


def build_report(paths: Sequence[Path], layers: Sequence[str] = (), image: int = 0) -> str:
    """One page about some runs, which loads nothing.

    Args:
        paths: run folders, or folders that hold runs.
        layers: whose maps are shown; the second-to-last convolution and the layer whose maps are most alike if not
            given.
        image: which probe image they are of.

    Raises:
        RunError: no run there, one that cannot be read, or no such layer or image.
    """
    found = [run.path for path in paths for run in find_runs(path)]
    if not found:
        raise RunError(f"there is no run in {', '.join(map(str, paths))}; give run folders, or a folder of runs")
    views = [Library(path).open(".") for path in dict.fromkeys(path.resolve() for path in found)]
    lines = [summarise(view.run, view.title) for view in views]
    page, library = Page(), PlotlyLib()
    body = [_head(views)]
    if len(views) > 1:
        body.append(_together(page, library, views, lines))
    body += [_section(page, library, view, layers, image) for view in views]
    names = ", ".join(view.title for view in views[:3])
    return page.render(f"Sauron – {names}{' …' if len(views) > 3 else ''}", "\n".join(body))


def _head(views: Sequence[RunView]) -> str:
    names = views[0].title if len(views) == 1 else f"{len(views)} runs"
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return (
        f"<header><h1>Sauron: {esc(names)}</h1>"
        f'<p class="sauron-note">How segmentation networks lost their redundant filters while they were trained. '
        f"Made {made}; this file needs nothing else.</p></header>"
    )


def _together(page: Page, library: PlotlyLib, views: Sequence[RunView], lines: Sequence[Summary]) -> str:
    table = overview_table()
    table.fill(overview_rows(lines))
    scatter = PlotlyChart(library=library, title="Dice against cost", note=SCATTER_NOTE)
    scatter.draw(dice_against_flops(lines))
    trained = [i for i, line in enumerate(lines) if line.epochs and not views[i].derived]
    groups = group_runs([views[i] for i in trained], [lines[i] for i in trained])
    curves = PlotlyChart(library=library, title=CURVES[0].name, note=curves_note(groups))
    curves.draw(comparison(groups, CURVES[0]) if groups else None)
    ends = DataTable(END_COLUMNS, title="How they ended", note=ends_note(groups), unit="settings")
    ends.fill(end_rows(groups))
    parts = [page.put(widget) for widget in (table, scatter, curves, ends)]
    return f"<section><h2>All runs</h2>{''.join(parts)}</section>"


def _section(page: Page, library: PlotlyLib, view: RunView, layers: Sequence[str], image: int) -> str:
    try:
        return _run(page, library, view, layers, image)
    except SauronError as error:
        if layers:
            raise
        return f'<section><h2>{esc(view.title)}</h2><p class="sauron-alert">{esc(error)}</p></section>'


def _run(page: Page, library: PlotlyLib, view: RunView, layers: Sequence[str], image: int) -> str:
    parts = [f'<h2>{esc(view.title)}</h2><div class="sauron-card">{key_numbers(view)}{_facts(view)}</div>']
    if view.epochs.empty:
        return f"<section>{parts[0]}<p class='sauron-empty'>No epoch is complete yet.</p></section>"
    parts.append(_network(page, view))
    progress = PlotlyChart(library=library, title="Cost and quality, epoch by epoch", note=PROGRESS_NOTE)
    progress.source = view.title
    progress.draw(progress_lines(view.epochs, view.info))
    parts.append(page.put(progress))
    if not view.derived:
        parts += _trends(page, library, view)
    parts.append(_galleries(view, layers, image))
    if view.prunings:
        cuts = cuts_table(source=view.title, note=told_cuts(view), export=cuts_csv(view.prunings, view.epochs))
        cuts.opens = ""
        cuts.fill(cut_rows(view.prunings, view.epochs))
        parts.append(page.put(cuts))
    config = f"<summary>Configuration</summary><pre>{esc(view.config.to_yaml())}</pre>"
    return f'<section>{"".join(parts)}<details class="sauron-card">{config}</details></section>'


def _facts(view: RunView) -> str:
    info = view.info
    took = float(view.epochs["seconds"].sum()) if len(view.epochs) else 0.0
    facts = {
        # A report is read later, when nothing of it lives any more.
        "Status": "was training when this was made"
        if view.status == "running"
        else STATUS.get(view.status, view.status),
        "Begun": info.created[:16].replace("T", " ") + " UTC",
        "Took": f"{duration(took)} on {info.device}",
        "Seed": info.seed,
        "Cases": f"{len(info.train_cases)} for training, {len(info.validation_cases)} for validation",
        "Data": f"{info.dataset}, SHA-256 {info.fingerprint[:16]}…",
        "Versions": ", ".join(f"{name} {version}" for name, version in info.versions.items()),
    }
    if info.derived_from:
        facts["Made from"] = f"{info.derived_from.run}, epoch {info.derived_from.epoch}: {info.derived_from.how}"
    items = "".join(f"<dt>{esc(name)}</dt><dd>{esc(value)}</dd>" for name, value in facts.items())
    return f'<dl class="sauron-facts">{items}</dl>'


def _network(page: Page, view: RunView) -> str:
    column = "filters_share" if view.pruned else "delta_opt"
    last = view.all_epochs[-1]
    before, after = Network(title="At the start"), Network(title="Epoch by epoch")
    before.note = after.note = NETWORK_NOTE
    for network in (before, after):
        show_network(network, view)
        colour_network(network, view, measure(column))
        network.layer = default_layer(view.info.layers)
    # The network before training has no epoch: everything is there, and nothing is measured.
    before.epochs = [0]
    before.filters = {info.name: [info.filters] for info in view.info.layers}
    before.values = {info.name: [100.0 if column == "filters_share" else None] for info in view.info.layers}
    before.epoch, after.epoch = 0, last
    slider = Slider(label="Epoch", playable=True, options=view.all_epochs, value=last)
    marks = [page.put(widget) for widget in (before, slider, after)]
    page.link(slider, "value", after, "epoch")
    first, control, second = marks
    return (
        f'<div class="sauron-pair"><div class="sauron-card">{first}</div>'
        f'<div class="sauron-card sauron-stack">{second}{control}</div></div>'
    )


def _trends(page: Page, library: PlotlyLib, view: RunView) -> list[str]:
    infos, parts = view.info.layers, []
    known = {found.column: found for found in measures(view.layers)}
    every = [info.name for info in infos]
    for column in filter(known.__contains__, _TRENDS):
        chart = PlotlyChart(library=library, title=known[column].name, note=known[column].meaning, source=view.title)
        chart.draw(measure_lines(view.layers, infos, known[column], every, default_layer(infos)))
        parts.append(page.put(chart))
    if view.pruned:
        share, removed = (grid_of(view.layers, infos, measure(name)) for name in ("filters_share", "removed"))
        chart = PlotlyChart(library=library, title="Filters left, layer by layer", source=view.title)
        chart.draw(layer_heat(share, measure("filters_share"), removed=removed), "Dots: filters were removed.")
        parts.append(page.put(chart))
    rows, told = change_rows(view, view.layers)
    table = DataTable(COLUMNS, title="Change of clusterability", note=CHANGES_NOTE, unit="layers", source=view.title)
    table.fill(rows)
    parts.append(f'{page.put(table)}<div class="sauron-card">{told}</div>')
    return parts


def _galleries(view: RunView, layers: Sequence[str], image: int) -> str:
    if not view.map_epochs:
        if layers:
            raise RunError(f"run {view.title} holds no feature maps")
        return ""
    # Pictures bring a library along that nothing else here needs.
    from sauron_viz.figures.gallery import as_svg, gallery  # noqa: PLC0415

    epochs = list(dict.fromkeys((view.map_epochs[0], view.map_epochs[-1])))
    parts = []
    for layer in layers or _telling(view):
        drawn = as_svg([gallery(view, layer, epoch, image) for epoch in epochs])
        parts.append(f'<div class="sauron-card sauron-gallery">{drawn}</div>')
    return "".join(parts)


def _telling(view: RunView) -> list[str]:
    """The layer that the paper shows, and the one whose maps are most alike at the end."""
    last = view.layers[view.layers["epoch"] == view.map_epochs[-1]]
    stored = view.run.map_layers(view.map_epochs[-1])
    found = [name for name in [default_layer(view.info.layers)] if name in stored]
    if "neighbours_share" in last and last["neighbours_share"].notna().any():
        ranked = last.dropna(subset="neighbours_share").sort_values("neighbours_share", ascending=False)["layer"]
        found += [str(name) for name in ranked if name in stored][:1]
    return list(dict.fromkeys(found or stored[:1]))
