"""Whether the maps of a layer became more clusterable while it was trained (paper, Appendix D and Table 4)."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
import pandas as pd

LARGE = 256
"""Layers with so many filters are shaded in Table 4."""
MEASURES: Mapping[str, int] = {"dip": 1, "delta_opt": -1, "neighbours": 1}
"""Column of a table to the sign of a change towards more clusterable."""


def change(epochs: Sequence[float], values: Sequence[float]) -> float:
    """100 · (p2 / p1 - 1): p1 is the mean over the first third of the epochs, p2 over the last (paper, Appendix D).

    Args:
        epochs: their numbers, ascending; gaps are allowed.
        values: a measure at each; NaN where there was none.

    Returns:
        Percent; 0 where both means are 0, infinite where only the first is; NaN where there are fewer than three epochs
        or a third has no value (design choices).
    """
    numbers, measured = np.asarray(epochs, dtype=float), np.asarray(values, dtype=float)
    if not len(numbers):
        return math.nan
    third = (numbers[-1] - numbers[0] + 1) // 3
    first, last = numbers - numbers[0] < third, numbers[-1] - numbers < third
    before, after = (_mean(measured[part]) for part in (first, last))
    if before == 0:
        return math.nan if math.isnan(after) else 0.0 if after == 0 else math.copysign(math.inf, after)
    return 100.0 * (after / before - 1.0)


def changes(measures: pd.DataFrame, filters: Mapping[str, int]) -> pd.DataFrame:
    """How much each measure changed between the first and the last third of the epochs, layer by layer.

    Args:
        measures: a table of epoch, layer and a column per measure.
        filters: layer name to its number of filters, in the order of the result.

    Returns:
        layer, filters, and the change of dip, delta_opt and neighbours in percent, as from `change`.
    """
    rows = []
    by_layer = dict(tuple(measures.groupby("layer", sort=False)))
    for name, count in filters.items():
        rows.append({"layer": name, "filters": count, **_changes(by_layer.get(name, measures.iloc[:0]))})
    return pd.DataFrame(rows, columns=["layer", "filters", *MEASURES])


@dataclass(frozen=True)
class Summary:
    """In how many of so many layers a measure moved towards more clusterable."""

    measure: str
    large: int
    large_of: int
    small: int
    small_of: int


def summarise(table: pd.DataFrame) -> list[Summary]:
    """The paper's reading of Table 4: large layers (256 filters or more) against small ones, measure by measure."""
    large = table["filters"] >= LARGE
    summaries = []
    for measure, sign in MEASURES.items():
        # As it is shown: a change that reads 0.0 % is none.
        moved = sign * table[measure].round(1) > 0
        summaries.append(
            Summary(
                measure,
                int((moved & large).sum()),
                int((large & table[measure].notna()).sum()),
                int((moved & ~large).sum()),
                int((~large & table[measure].notna()).sum()),
            )
        )
    return summaries


def paper_table4() -> pd.DataFrame:
    """Table 4 of the paper: the Rats network, trained with δ_opt and without pruning; columns as in `table4`."""
    source = resources.files("sauron_train.analysis").joinpath("table4.csv")
    return pd.read_csv(io.StringIO(source.read_text(encoding="utf-8")), comment="#")


def same_layers(layers: Iterable[str]) -> bool:
    """Whether these are the layers of the paper's Table 4, so that a name means the same place."""
    return set(layers) == set(paper_table4()["layer"])


def agreement(table: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Whether two tables agree in the sign of each change, by layer; only layers that both have.

    Returns:
        layer and a column per measure: True, False, or None where one of the two has no value.
    """
    both = table.merge(other, on="layer", suffixes=("", "_other"))
    result = pd.DataFrame({"layer": both["layer"]})
    for measure in MEASURES:
        ours, theirs = both[measure], both[f"{measure}_other"]
        same = (np.sign(ours.round(1)) == np.sign(theirs.round(1))).astype(object)
        result[measure] = same.where(ours.notna() & theirs.notna(), None)
    return result


def _changes(rows: pd.DataFrame) -> dict[str, float]:
    epochs = rows["epoch"].tolist()
    return {m: change(epochs, rows[m].tolist()) if m in rows else math.nan for m in MEASURES}


def _mean(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
