"""Measures of a run as tidy tables, one row per epoch and layer; any radius and any sample, without the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sauron_train.analysis.clusterability import BINS, mean_dip, neighbours_within
from sauron_train.analysis.dip import Array, Sample
from sauron_train.analysis.trends import changes

if TYPE_CHECKING:
    from sauron_train.runlog import Run

DIP_COLUMNS = ("dip", "dip_p", "dip_n", "dip_method", "dip_reason")


def measures(run: Run, sample: Sample | None = None, radius: float | None = None) -> pd.DataFrame:
    """Dip, δ_opt and neighbours of every layer over the epochs.

    Args:
        run: a run folder.
        sample: of which values the dip is taken; another one than the run's own is there at epochs whose distances are
            all stored, and empty at the others.
        radius: within which maps are neighbours; any, at every epoch. Default: the run's own.

    Returns:
        epoch, layer, filters, dip, dip_p, dip_n, dip_method, dip_reason, delta_opt, neighbours.

    Raises:
        RunError: something of the run is missing or damaged.
    """
    wanted = ["epoch", "layer", "filters", *DIP_COLUMNS, "delta_opt", "neighbours"]
    table = run.layers().reindex(columns=wanted)
    if sample not in (None, run.config.probe.dip):
        others = [name for name in wanted if not name.startswith("dip")]
        table = table[others].merge(dips(run, sample), on=["epoch", "layer"], how="left")
    if radius not in (None, run.config.probe.radius):
        table = table.drop(columns="neighbours").merge(neighbours(run, radius), on=["epoch", "layer"], how="left")
    return table[wanted]


def neighbours(run: Run, radius: float) -> pd.DataFrame:
    """Average neighbours within a radius, at every epoch.

    Args:
        run: a run folder.
        radius: between 0 and 1, in units of a map's range.

    Returns:
        epoch, layer, neighbours.
    """
    table, counts = histograms(run, run.distance_epochs())
    values = neighbours_within(counts, table["filters"].to_numpy(), radius)
    return table[["epoch", "layer"]].assign(neighbours=values)


def histograms(run: Run, epochs: Sequence[int]) -> tuple[pd.DataFrame, Array]:
    """How many pairs of maps lie how far from each other, layer by layer.

    Args:
        run: a run folder.
        epochs: some of `run.distance_epochs()`.

    Returns:
        A table of epoch, layer and filters, and for each of its rows the counts (BINS,) that `neighbours_within` reads.
    """
    rows: list[tuple[int, str, int]] = []
    counts: list[Array] = []
    for epoch in epochs:
        for layer, stored in run.distances(epoch).items():
            rows.append((epoch, layer, len(stored.filters)))
            counts.append(stored.histogram)
    return pd.DataFrame(rows, columns=["epoch", "layer", "filters"]), np.array(counts).reshape(len(rows), BINS)


def dips(run: Run, sample: Sample) -> pd.DataFrame:
    """The dip of a sample, at the epochs whose distances are all stored.

    Returns:
        epoch, layer, dip, dip_p, dip_n, dip_method, dip_reason.
    """
    rows = []
    for epoch in run.map_epochs():
        for layer in run.map_layers(epoch):
            stored = run.maps(epoch, layer)
            found = mean_dip([stored.distances(image) for image in range(stored.shape[0])], sample)
            values = (found.statistic, found.p, found.n, found.method or None, found.reason or None)
            rows.append({"epoch": epoch, "layer": layer, **dict(zip(DIP_COLUMNS, values, strict=True))})
    return pd.DataFrame(rows, columns=["epoch", "layer", *DIP_COLUMNS])


def table4(run: Run, sample: Sample | None = None, radius: float | None = None) -> pd.DataFrame:
    """The paper's Table 4 of a run: how much each measure changed between the first and the last third of the epochs.

    Args:
        run: a run folder.
        sample: see `measures`.
        radius: see `measures`.

    Returns:
        One row per layer in the order of the network: layer, filters (before training), and the change in percent of
        dip, delta_opt and neighbours.
    """
    return changes(measures(run, sample, radius), {layer.name: layer.filters for layer in run.info.layers})
