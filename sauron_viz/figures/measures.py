"""The measures of layers.csv: what they are called, what their axis says, and which way is which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from sauron_train.runlog import LayerInfo

_DELTA_PRUNE = "δ_prune (share of the largest distance)"


@dataclass(frozen=True)
class Measure:
    """A column of layers.csv: its name in lists, the title of its axis, and what a reader should know of it."""

    column: str
    name: str
    axis: str
    meaning: str = ""

    @property
    def is_share(self) -> bool:
        """Whether its values lie in [0, 1] and are shown in percent."""
        return self.column in ("filters_share", "neighbours_share")


_KNOWN = (
    Measure(
        "delta_opt", "δ_opt: distance to the reference", "δ_opt (share of the maps' range)", "Lower: more clusterable."
    ),
    Measure("dip", "Dip statistic", "dip statistic", "Higher: more clusterable."),
    Measure(
        "dip_p",
        "Dip test, p-value",
        "p-value of one mode",
        "The distances are no independent draws, so p orders layers and epochs but proves nothing.",
    ),
    Measure(
        "neighbours",
        "Average neighbours",
        "other maps within the radius",
        "Higher: more clusterable; cuts take neighbours away, see their share.",
    ),
    Measure(
        "neighbours_share",
        "Average neighbours, share",
        "share of the other maps within the radius (%)",
        "Higher: more clusterable.",
    ),
    Measure("filters_share", "Filters left, share", "filters left (%)"),
    Measure("filters", "Filters left", "filters left"),
    Measure("removed", "Filters removed in the epoch", "filters removed"),
    Measure("delta_prune_min", "δ_prune, smallest", _DELTA_PRUNE, "What lies below τ is removed."),
    Measure("delta_prune_q25", "δ_prune, lower quartile", _DELTA_PRUNE),
    Measure("delta_prune_median", "δ_prune, median", _DELTA_PRUNE),
    Measure("delta_prune_q75", "δ_prune, upper quartile", _DELTA_PRUNE),
    Measure(
        "threshold", "Threshold τ", "τ (unit of δ_prune)", "It rises when the losses have settled, and never falls."
    ),
    Measure("patience", "Patience left", "epochs until τ may rise"),
)
_NOT_MEASURES = {"epoch", "layer", "raised", "reference", "dip_n"}


def measure(column: str) -> Measure:
    """What is known of a column; one that is not known goes by its own name."""
    return next((known for known in _KNOWN if known.column == column), Measure(column, column, column))


def measures(layers: pd.DataFrame) -> list[Measure]:
    """Every measure the table really has numbers for; unknown columns come last."""
    found = [
        column
        for column in layers.columns
        if column not in _NOT_MEASURES
        and pd.api.types.is_numeric_dtype(layers[column])
        and not pd.api.types.is_bool_dtype(layers[column])
        and layers[column].notna().any()
    ]
    known = [known for known in _KNOWN if known.column in found]
    return known + [measure(column) for column in found if column not in {k.column for k in known}]


def shown_values(layers: pd.DataFrame, wanted: Measure) -> pd.Series[float]:
    """A column in the unit that it is shown in."""
    values = layers[wanted.column].astype(float)
    return 100 * values if wanted.is_share else values


def grid_of(layers: pd.DataFrame, infos: Sequence[LayerInfo], wanted: Measure) -> pd.DataFrame:
    """A measure as it is shown: one row per layer in the order of the network, one column per epoch.

    NaN where nothing was measured.
    """
    names = [info.name for info in infos]
    if layers.empty:
        return pd.DataFrame(index=names)
    table = layers[["layer", "epoch"]].assign(value=shown_values(layers, wanted))
    return table.pivot_table(index="layer", columns="epoch", values="value", aggfunc="last", dropna=False).reindex(
        names
    )
