"""The scores of an evaluation as a table: one row per case and class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCORE_COLUMNS = ("case", "class", "dice", "hd95_mm", "surface_dice", "reference_ml", "predicted_ml", "note")


def score_rows(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of `evaluation.csv` from what `evaluation.json` holds; what was not scored is None."""
    rows = []
    for case in values["cases"]:
        for name in case["dice"]:
            scores = {column: case.get(column, {}).get(name) for column in SCORE_COLUMNS[2:-1]}
            rows.append({"case": case["case"], "class": name, **scores, "note": case.get("notes", {}).get(name, "")})
    return rows
