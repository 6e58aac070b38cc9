"""What a study ends in: tables in its folder, and the commands that draw its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from shlex import quote

import pandas as pd

from sauron_train.analysis.tables import table4
from sauron_train.analysis.trends import MEASURES, agreement, paper_table4, same_layers, summarise
from sauron_train.errors import RunError
from sauron_train.runlog import Run
from sauron_train.runlog.files import write_atomically
from sauron_train.study.file import Ending, Study
from sauron_train.study.plan import Planned
from sauron_train.study.results import arm_rows, run_rows, shown_arms
from sauron_train.study.tabular import latex, markdown
from sauron_train.study.work import state

_HEADINGS = {"dip": "dip", "delta_opt": "δ_opt", "neighbours": "neighbours"}
_BASELINE = "baseline"


def write_tables(study: Study, planned: Sequence[Planned], out: Path) -> tuple[list[str], list[list[str]]]:
    """Write all tables of a study from the runs that are finished.

    Returns:
        The table of arms: headings and rows, as many as fit on a terminal.

    Raises:
        RunError: no run is finished, or the folder cannot be written.
    """
    done = [run for run in planned if state(run.folder) == "finished"]
    if not done:
        raise RunError(f"no run of {out} is finished yet, so there is nothing to make a table of")
    runs = run_rows(planned, study.baseline or (_BASELINE if _BASELINE in study.arms else None))
    headings, rows = shown_arms(runs)
    found = {
        "results.csv": _csv(runs.assign(fold=runs["fold"].where(runs["fold"] >= 0).astype("Int64"))),
        "table.csv": _csv(arm_rows(runs)),
        "table.md": markdown(headings, rows),
        "table.tex": latex(headings, rows),
    }
    _write(found, out)
    # After the others are safe: these read far more of each run.
    for ending in study.ends_in:
        _write(_TABLES[ending](done), out)
    return shown_arms(runs, brief=True)


def _write(tables: Mapping[str, str], out: Path) -> None:
    try:
        for name, text in tables.items():
            write_atomically(out / name, text)
    except OSError as error:
        raise RunError(f"the tables cannot be written into {out}: {error.strerror}") from None


def how_to_look(study: Study, planned: Sequence[Planned], out: Path) -> list[tuple[str, str]]:
    """Commands that show a study, each with what it shows."""
    done = [run for run in planned if state(run.folder) == "finished"]
    folder = quote(str(out))
    looks = [("Look at it", f"sauron-viz serve {folder}")]
    if "comparison" in study.ends_in:
        looks.append(("Curves as in Fig. S1, in one file", f"sauron-viz report {folder} --out {folder}/report.html"))
    if "table4" in study.ends_in:
        looks += [
            (f"Table 4 of {arm}", f"sauron-viz table4 {quote(str(run.folder))} --paper")
            for arm, run in _firsts(done).items()
        ]
    if "maps" in study.ends_in:
        looks += [
            (f"All maps as in Figs. S3 to S5, {arm}", f"sauron-viz figures {quote(str(run.folder))} --out {arm}.svg")
            for arm, run in _firsts(done).items()
        ]
    return looks


def curves(done: Sequence[Planned]) -> pd.DataFrame:
    """Validation Dice of every arm over the epochs that all its runs have: what Fig. S1 of the paper shows.

    Returns:
        arm, epoch, mean, low, high and runs.
    """
    parts = []
    for arm in dict.fromkeys(run.arm for run in done):
        series = [Run(run.folder).epochs().set_index("epoch")["val_dice"] for run in done if run.arm == arm]
        both = pd.concat(series, axis=1, join="inner")
        values = {"mean": both.mean(axis=1), "low": both.min(axis=1), "high": both.max(axis=1), "runs": len(series)}
        parts.append(pd.DataFrame({"arm": arm, "epoch": both.index, **values}).reset_index(drop=True))
    return pd.concat(parts, ignore_index=True)


def _curves(done: Sequence[Planned]) -> dict[str, str]:
    return {"curves.csv": _csv(curves(done))}


def _table4(done: Sequence[Planned]) -> dict[str, str]:
    tables = {run: table4(run.folder) for run in done}
    tidy = [t.assign(run=run.name, arm=run.arm, seed=run.seed) for run, t in tables.items()]
    text = markdown(*_by_layer(tables)) + "\n" + markdown(*_readings(tables))
    return {"table4.csv": _csv(pd.concat(tidy, ignore_index=True)), "table4.md": text}


def _nothing(done: Sequence[Planned]) -> dict[str, str]:
    """Pictures of maps are drawn by `sauron-viz`."""
    return {}


_TABLES: Mapping[Ending, Callable[[Sequence[Planned]], dict[str, str]]] = {
    "comparison": _curves,
    "table4": _table4,
    "maps": _nothing,
}


def _by_layer(tables: Mapping[Planned, pd.DataFrame]) -> tuple[list[str], list[list[str]]]:
    """Changes layer by layer: the mean over an arm's runs, beside the paper's where layers are the same."""
    layers = next(iter(tables.values()))[["layer", "filters"]]
    shown = {"paper": paper_table4()} if same_layers(layers["layer"]) else {}
    for arm in dict.fromkeys(run.arm for run in tables):
        shown[arm] = pd.concat([t for run, t in tables.items() if run.arm == arm]).groupby("layer").mean().reset_index()
    by_layer = {who: table.set_index("layer") for who, table in shown.items()}
    columns = [(measure, who) for measure in MEASURES for who in shown]
    rows = [
        [layer, str(filters), *(_percent(by_layer[who][measure].get(layer, math.nan)) for measure, who in columns)]
        for layer, filters in zip(layers["layer"], layers["filters"], strict=True)
    ]
    return ["layer", "filters", *(f"{_HEADINGS[measure]}, {who}" for measure, who in columns)], rows


def _readings(tables: Mapping[Planned, pd.DataFrame]) -> tuple[list[str], list[list[str]]]:
    """In how many large and small layers each measure moved towards more clusterable, run by run."""
    paper = paper_table4()
    compared = same_layers(next(iter(tables.values()))["layer"])
    shown = {**({"paper": paper} if compared else {}), **{run.name: table for run, table in tables.items()}}
    rows = []
    for who, table in shown.items():
        read = [f"{s.large} of {s.large_of} · {s.small} of {s.small_of}" for s in summarise(table)]
        agreed = agreement(table, paper)[list(MEASURES)].to_numpy().ravel().tolist() if compared else []
        same = [found for found in agreed if found is not None and who != "paper"]
        rows.append([who, *read, *([f"{sum(same)} of {len(same)}" if same else ""] if compared else [])])
    moved = ["dip rose, large · small", "δ_opt fell, large · small", "neighbours rose, large · small"]
    return ["run", *moved, *(["same sign as the paper"] if compared else [])], rows


def _firsts(done: Sequence[Planned]) -> dict[str, Planned]:
    first: dict[str, Planned] = {}
    for run in done:
        first.setdefault(run.arm, run)
    return first


def _percent(value: float) -> str:
    if math.isnan(value):
        return "–"
    return ("∞" if math.isinf(value) else f"{value:+.1f} %").replace("-", "−")


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, float_format="%.6g")
