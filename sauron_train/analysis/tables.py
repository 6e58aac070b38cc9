"""Measures of a run as tidy tables, one row per epoch and layer; any radius and any sample, without the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sauron_train.analysis.clusterability import BINS, neighbours_within
from sauron_train.analysis.dip import Array, Sample, dip, dip_sample
from sauron_train.analysis.trends import changes

if TYPE_CHECKING:
    from sauron_train.runlog import Run


def measures(run: Run, sample: Sample | None = None, radius: float | None = None) -> pd.DataFrame:
    """Dip, δ_opt and neighbours of every layer over the epochs.

    Args:
        run: a run folder.
        sample: of which values the dip is taken; another one than the run's own is there at epochs whose distances are
            all stored, and empty at the others.
        radius: within which maps are neighbours; any, at every epoch. Default: the run's own.

    Returns:
        epoch, layer, filters, dip, dip_p, dip_n, dip_reason, delta_opt, neighbours.

    Raises:
        RunError: something of the run is missing or damaged.
    """
    wanted = ["epoch", "layer", "filters", "dip", "dip_p", "dip_n", "dip_reason", "delta_opt", "neighbours"]
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
        epoch, layer, dip, dip_p, dip_n, dip_reason.
    """
    rows = []
    for epoch in run.map_epochs():
        for layer in run.map_layers(epoch):
            stored = run.maps(epoch, layer)
            found = [dip(dip_sample(stored.distances(image), sample)) for image in range(stored.shape[0])]
            fit = [d for d in found if not d.reason]
            rows.append(
                {
                    "epoch": epoch,
                    "layer": layer,
                    "dip": np.mean([d.statistic for d in fit]) if fit else np.nan,
                    "dip_p": np.mean([d.p for d in fit]) if fit else np.nan,
                    "dip_n": found[0].n,
                    "dip_reason": None if fit else found[0].reason,
                }
            )
    return pd.DataFrame(rows, columns=["epoch", "layer", "dip", "dip_p", "dip_n", "dip_reason"])


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
