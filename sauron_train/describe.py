"""Networks and runs in words and numbers, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sauron_train.analysis.widths import told
from sauron_train.complexity import complexity
from sauron_train.config import Config
from sauron_train.errors import SauronError
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.pruning.channels import trace
from sauron_train.pruning.graph import ChannelGraph
from sauron_train.pruning.report import report
from sauron_train.runlog import Run

_CLASSES = 2


def describe_network(config: Config) -> RenderableType:
    """A table of the prunable layers and a line of what it costs, for two classes."""
    channels = config.data.channels or 1
    spec = UNetSpec.unpruned(config.network, channels, _CLASSES)
    model = UNet(spec, torch.Generator().manual_seed(config.seed))
    graph = trace(model, torch.zeros(1, channels, *config.data.patch), UNet.layer_name)
    cost = complexity(model, channels, config.data.patch)
    table = Table(box=None, header_style="bold")
    for heading in ("layer", "level", "filters", "map size", "parameters", "feeds"):
        table.add_column(heading, justify="left" if heading in ("layer", "feeds") else "right")
    readers = _readers(graph)
    for name, layer in graph.layers.items():
        level = spec.level(name)
        size = " x ".join(str(side // 2 ** (level - 1)) for side in config.data.patch)
        weights = sum(p.numel() for p in model.get_submodule(name).parameters())
        table.add_row(name, str(level), str(len(layer.outputs)), size, f"{weights:,}", ", ".join(readers[name]))
    foot = (
        f"\n{report(graph, config.prune.exclude)}\n\n{training_line(config)}\n\n"
        f"{cost.parameters:,} parameters, {cost.flops / 1e9:.2f} GFLOPs per patch of "
        f"{' x '.join(map(str, config.data.patch))} with {channels} channel(s),\n"
        f"assuming {_CLASSES} classes, the background included."
    )
    title = Text(f"{config.name}: {config.description}\n", style="bold")
    return Group(title, table, Text(foot))


def _readers(graph: ChannelGraph) -> dict[str, list[str]]:
    convs = graph.convolutions()
    return {
        name: [reader for reader, conv in convs.items() if set(conv.inputs.tolist()) & set(layer.outputs.tolist())]
        for name, layer in graph.layers.items()
    }


def compare_runs(folders: Sequence[Path]) -> tuple[Table, list[str]]:
    """How runs ended, side by side: Dice, and what is left of filters, parameters and FLOPs.

    Returns:
        The table of the runs that can be read, and a sentence about each of the others.
    """
    rows, unread = [], []
    for folder in folders:
        try:
            run = Run(folder)
            rows.append((run.info.dataset, _row(run)))
        except SauronError as error:
            unread.append(f"{folder.name} is left out: {error}")
    names = list(dict.fromkeys(dataset for dataset, _ in rows))
    title = f"{names[0]}, validation cases" if len(names) == 1 else f"different data sets: {', '.join(names)}"
    table = Table(box=None, header_style="bold", title=escape(title), title_justify="left")
    for heading in ("run", "mode", "λ", "cuts", "epochs", "Dice", "filters", "params", "FLOPs", "minutes"):
        words = heading in ("run", "mode", "cuts")
        table.add_column(heading, justify="left" if words else "right", overflow="fold" if words else "ellipsis")
    for _, row in rows:
        table.add_row(*row)
    return table, unread


def _row(run: Run) -> tuple[str, ...]:
    config = run.config
    weight = f"{config.loss.lambda_:g}" if config.mode not in ("baseline", "off") else "-"
    return escape(run.name), config.mode, weight, config.cuts or "-", *_ending(run)


def training_line(config: Config) -> str:
    """How a configuration trains and cuts, in a line."""
    weighted = config.loss.normalization != "off" and config.loss.lambda_ > 0
    ends = config.prune.enabled and config.prune.last_epoch is not None
    until = " until the last cut" if ends and config.loss.until_last_cut else ""
    strength = f"{config.loss.normalization}, λ {config.loss.lambda_:g}{until}"
    penalty = f"δ_opt ({strength})" if weighted else "no δ_opt in the loss"
    if config.rival is not None:
        flops = share(config.rival.flops, 1)
        return f"mode {config.mode}: filters are cut at once, to {flops} of the FLOPs or below{_widths(config)}"
    if not config.prune.enabled:
        return f"mode {config.mode}: {penalty}, nothing is cut"
    prune = config.prune
    what = "what they did goes to a survivor" if prune.compensate == "merge" else "what they did is lost"
    pi = "every map that stays is π in turn" if prune.references == "all" else "one π an epoch"
    until = f"τ {prune.threshold_start:g} to {prune.threshold_max:g}"
    return f"mode {config.mode}: {penalty}; filters are cut ({until}{_widths(config)}), {pi}, {what}"


def _widths(config: Config) -> str:
    multiple = config.prune.width_multiple
    return f", to {told(multiple)}" if multiple > 1 else ""


def share(left: float, whole: float) -> str:
    """In percent; what has lost anything at all does not read as 100 %."""
    text = f"{left / whole:.0%}"
    return f"{min(left / whole, 0.999):.1%}" if text == "100%" and left < whole else text


def _ending(run: Run) -> tuple[str, ...]:
    info, epochs = run.info, run.epochs()
    if epochs.empty:
        return ("0", *["-"] * 5)
    last = epochs.iloc[-1]
    filters = sum(layer.filters for layer in info.layers)
    return (
        str(len(epochs)),
        f"{last['val_dice']:.3f}",
        share(last["filters"], filters),
        share(last["parameters"], info.parameters),
        share(last["flops"], info.flops),
        f"{epochs['seconds'].sum() / 60:.1f}",
    )
