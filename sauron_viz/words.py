"""What the terms of the views mean, in one sentence each; shown where the pointer rests on a term."""

from __future__ import annotations

DELTA_OPT = "δ_opt: mean distance of a layer's maps to its reference map; what training pulls down"
DELTA_PRUNE = "δ_prune: distance of a map to the nearest reference map, as a share of the largest in its layer"
TAU = "τ: threshold of a layer; filters whose δ_prune lies below it are removed"
LAMBDA = "λ: weight of δ_opt in the loss"
DIP = (
    "Dip: how far the distances between a layer's maps are from having one peak; higher means that the maps are in "
    "clusters. Its p-value is the chance of such a dip with one peak"
)
NEIGHBOURS = "Neighbours: other maps of the layer that are nearer than the radius, on average"
TERMS = {"δ_opt": DELTA_OPT, "δ_prune": DELTA_PRUNE, "τ": TAU, "Dip": DIP, "neighbours": NEIGHBOURS}

HEADER = {
    "Data set": "What the run was trained on, and whether in 2D or 3D",
    "Epoch": "Epochs completed, of those planned",
    "Dice": "Mean Dice on the validation cases after the last epoch; 1 is perfect",
    "Filters left": "Filters of all layers after the last epoch, of those at the start",
    "Parameters left": "Share of the unpruned network's parameters",
    "FLOPs left": "Share of the unpruned network's operations for one patch and one forward pass",
    "δ_opt": f"{DELTA_OPT}. {LAMBDA}",
}

LIVE = "Looked at once a second: whatever is new appears by itself, in all tabs"
STATUS = {
    "running": "live: training now",
    "finished": "finished",
    "stopped": "stopped",
    "failed": "failed",
    "lost": "lost: its process is gone",
    "damaged": "damaged",
}


def duration(seconds: float) -> str:
    """A time in the unit that it is told in: "45 s", "12 min", "3 h 05", "2.5 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02d}" if hours < 48 else f"{hours / 24:.1f} days"


def explain(text: str) -> str:
    """What the terms in a text mean; "" where it holds none."""
    return ". ".join(meaning for term, meaning in TERMS.items() if term in text)
