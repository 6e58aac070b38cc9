"""Measures of a run as tidy tables, one row per epoch and layer; any radius and any sample, without the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import pandas as pd

from sauron_train.analysis.clusterability import BINS, mean_dip, neighbours_within
from sauron_train.analysis.dip import Array, Sample
from sauron_train.analysis.trends import changes
from sauron_train.errors import ConfigError

if TYPE_CHECKING:
    from sauron_train.runlog import Run

DIP_COLUMNS = ("dip", "dip_p", "dip_n", "dip_method", "dip_reason")


def measures(run: Run | Path | str, sample: Sample | None = None, radius: float | None = None) -> pd.DataFrame:
    """Dip, δ_opt and neighbours of every layer over the epochs.

    Example:
        >>> table = measures("runs/rats", radius=0.2)
        >>> table.pivot(index="epoch", columns="layer", values="neighbours").plot()

    Args:
        run: a run folder, or its path.
        sample: of which values the dip is taken; another one than the run's own is there at epochs whose distances are
            all stored, and empty at the others.
        radius: within which maps are neighbours; any, at every epoch. Default: the run's own.

    Returns:
        epoch, layer, filters, dip, dip_p, dip_n, dip_method, dip_reason, delta_opt, neighbours, and neighbours_share,
        that of the other maps of the layer: where filters were cut their number cannot be compared.

    Raises:
        RunError: something of the run is missing or damaged.
        ConfigError: no such sample, or a radius outside [0, 1].
    """
    run = _opened(run)
    _check(sample, radius)
    wanted = ["epoch", "layer", "filters", *DIP_COLUMNS, "delta_opt", "neighbours"]
    table = run.layers().reindex(columns=wanted)
    if sample not in (None, run.config.probe.dip):
        others = [name for name in wanted if not name.startswith("dip")]
        table = table[others].merge(dips(run, sample), on=["epoch", "layer"], how="left")
    if radius not in (None, run.config.probe.radius):
        table = table.drop(columns="neighbours").merge(neighbours(run, radius), on=["epoch", "layer"], how="left")
    return with_share(table[wanted])


def with_share(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `neighbours_share`: average neighbours as a share of the other maps; NaN for one filter."""
    others = table["filters"].to_numpy(dtype=float) - 1
    near = table["neighbours"].to_numpy(dtype=float)
    share = np.divide(near, others, out=np.full(len(near), np.nan), where=others > 0)
    return table.assign(neighbours_share=share)


def neighbours(run: Run | Path | str, radius: float) -> pd.DataFrame:
    """Average neighbours within a radius, at every epoch.

    Args:
        run: a run folder, or its path.
        radius: between 0 and 1, in units of a map's range.

    Returns:
        epoch, layer, neighbours.
    """
    run = _opened(run)
    _check(None, radius)
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


def dips(run: Run | Path | str, sample: Sample) -> pd.DataFrame:
    """The dip of a sample, at the epochs whose distances are all stored.

    Returns:
        epoch, layer, dip, dip_p, dip_n, dip_method, dip_reason.
    """
    run = _opened(run)
    _check(sample, None)
    rows = []
    for epoch in run.map_epochs():
        for layer in run.map_layers(epoch):
            stored = run.maps(epoch, layer)
            found = mean_dip([stored.distances(image) for image in range(stored.shape[0])], sample)
            values = (found.statistic, found.p, found.n, found.method or None, found.reason or None)
            rows.append({"epoch": epoch, "layer": layer, **dict(zip(DIP_COLUMNS, values, strict=True))})
    return pd.DataFrame(rows, columns=["epoch", "layer", *DIP_COLUMNS])


def table4(
    run: Run | Path | str, sample: Sample | None = None, radius: float | None = None, share: bool = False
) -> pd.DataFrame:
    """The paper's Table 4 of a run: how much each measure changed between the first and the last third of the epochs.

    Args:
        run: a run folder, or its path.
        sample: see `measures`.
        radius: see `measures`.
        share: neighbours as a share of the other maps, and not their number.

    Returns:
        One row per layer in the order of the network: layer, filters (before training), and the change in percent of
        dip, delta_opt and neighbours.
    """
    run = _opened(run)
    table = measures(run, sample, radius)
    if share:
        table = table.assign(neighbours=table["neighbours_share"])
    return changes(table, {layer.name: layer.filters for layer in run.info.layers})


def _opened(run: Run | Path | str) -> Run:
    from sauron_train.runlog import Run as Folder  # noqa: PLC0415 - the run log is built on this package

    return Folder(run) if isinstance(run, (str, Path)) else run


def _check(sample: Sample | None, radius: float | None) -> None:
    if sample is not None and sample not in get_args(Sample):
        raise ConfigError(f"sample must be one of {', '.join(get_args(Sample))} (it is {sample!r})")
    if radius is not None and not 0 <= radius <= 1:
        raise ConfigError(f"radius must lie between 0 and 1, in units of a map's range (it is {radius})")
