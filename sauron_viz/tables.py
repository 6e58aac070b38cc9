"""Table 4 of the paper, of any run, for the terminal, a spreadsheet, an article or a page."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sauron_train.analysis.dip import Sample
from sauron_train.analysis.tables import table4
from sauron_train.analysis.trends import LARGE, MEASURES, Summary, agreement, paper_table4, same_layers, summarise
from sauron_train.errors import SauronError
from sauron_train.runlog import Run

WIDTH = 120
"""Columns of a table that goes into a file."""
HEADINGS: Mapping[str, str] = {"dip": "Dip-test", "delta_opt": "Distances δ_opt", "neighbours": "Avg. neighbours"}
_LATEX_HEADINGS = {"dip": "Dip-test", "delta_opt": r"Distances $\delta_{opt}$", "neighbours": "Avg. neighbours"}


_SAMPLES = {"pairs": "all distances", "reference": "distances to channel 0", "pca": "the first principal component"}


class TableError(SauronError):
    """The table cannot be shown as asked."""


@dataclass(frozen=True)
class Cell:
    """A change in percent, and whether the paper's has the same sign; None where it is not compared."""

    change: float
    agrees: bool | None = None


@dataclass(frozen=True)
class Row:
    """A layer; large ones are shaded."""

    layer: str
    filters: int
    cells: Mapping[str, Cell]
    paper: Mapping[str, float]

    @property
    def large(self) -> bool:
        """Whether the paper would shade it."""
        return self.filters >= LARGE


@dataclass(frozen=True)
class ChangesTable:
    """Rows, what they are of, and whether the paper's own values stand beside them."""

    title: str
    rows: tuple[Row, ...]
    beside_paper: bool
    reading: tuple[str, ...]

    @classmethod
    def of(cls, table: pd.DataFrame, title: str, beside_paper: bool = False, notes: Sequence[str] = ()) -> ChangesTable:
        """From what `sauron_train.analysis.tables.table4` gives; `notes` are read below it."""
        paper = paper_table4().set_index("layer") if beside_paper else pd.DataFrame()
        agrees = agreement(table, paper_table4()).set_index("layer") if beside_paper else pd.DataFrame()
        rows = []
        for values in table.to_dict("records"):
            layer = str(values["layer"])
            known = layer in paper.index
            cells = {m: Cell(float(values[m]), agrees[m][layer] if known else None) for m in MEASURES}
            theirs = {m: float(paper[m][layer]) if known else math.nan for m in MEASURES}
            rows.append(Row(layer, int(values["filters"]), cells, theirs))
        return cls(title, tuple(rows), beside_paper, (*_reading(table, rows, beside_paper), *notes))


def changes_table(
    run: Run,
    sample: Sample | None = None,
    radius: float | None = None,
    beside_paper: bool = False,
    share: bool = False,
) -> ChangesTable:
    """Table 4 of a run.

    Args:
        run: a run folder.
        sample: of which values the dip is taken; None = as the run logged it.
        radius: within which maps are neighbours; None = as the run logged it.
        beside_paper: show the paper's values too.
        share: neighbours as a share of the other maps of the layer, not their number.

    Raises:
        TableError: the run's network has other layers than the paper's, so it cannot stand beside it.
        RunError: something of the run is missing or damaged.
    """
    table, asked = table4(run, sample, radius, share), run.config.probe
    if beside_paper and not same_layers(table["layer"]):
        raise TableError(
            f"{run.name} has other layers than the paper's network, which has five levels, so that the same name is "
            "another place; leave --paper out"
        )
    within = f"{asked.radius if radius is None else radius:g} of a map's range"
    title = (
        f"{run.name}: change of clusterability (dip of {_SAMPLES[sample or asked.dip]}, "
        f"{'share of ' if share else ''}neighbours within {within})"
    )
    return ChangesTable.of(table, title, beside_paper, _notes(run, sample, table, share))


def percent(change: float) -> str:
    """With sign and one decimal; ∞ where there was nothing before, – where there is no value."""
    if math.isnan(change):
        return "–"
    if math.isinf(change):
        return "+∞" if change > 0 else "−∞"
    return "0.0%" if abs(change) < 0.05 else f"{change:+.1f}%".replace("-", "−")


def as_text(table: ChangesTable) -> str:
    """Plain text, 120 columns; large layers carry a mark."""
    file = io.StringIO()
    print_table(table, Console(file=file, width=WIDTH, color_system=None))
    return file.getvalue()


def print_table(table: ChangesTable, console: Console | None = None) -> None:
    """For a terminal: large layers carry a mark, and a background where there is colour."""
    console = console or Console()
    if not console.is_terminal and console.width < WIDTH:
        # What goes into a file or a pipe is as wide as it must be.
        console = Console(file=console.file, width=WIDTH, color_system=None)
    console.print(_text_table(table))
    console.print()
    for line in table.reading:
        console.print(line, highlight=False, markup=False)


def _text_table(table: ChangesTable) -> Table:
    shown = Table(box=None, header_style="bold", title=Text(table.title), title_justify="left", title_style="bold")
    shown.add_column("Conv. layer", no_wrap=True, overflow="fold", min_width=max(len(r.layer) for r in table.rows))
    shown.add_column("Filters", justify="right", no_wrap=True)
    for heading in HEADINGS.values():
        shown.add_column(heading, justify="right")
        if table.beside_paper:
            shown.add_column("paper", justify="right", header_style="dim")
    for row in table.rows:
        cells: list[str | Text] = [Text(row.layer), f"{row.filters}{' ■' if row.large else '  '}"]
        for measure in HEADINGS:
            cells.append(_marked(row.cells[measure]))
            if table.beside_paper:
                cells.append(Text(percent(row.paper[measure]), style="" if row.large else "dim"))
        shown.add_row(*cells, style="black on grey85" if row.large else "")
    return shown


def as_csv(table: ChangesTable) -> str:
    """Changes in percent; columns paper_* and agrees_* where it stands beside the paper's."""
    lines = []
    for row in table.rows:
        line: dict[str, object] = {"layer": row.layer, "filters": row.filters}
        line |= {f"{m}_change_percent": round(row.cells[m].change, 4) for m in MEASURES}
        if table.beside_paper:
            line |= {f"paper_{m}_change_percent": row.paper[m] for m in MEASURES}
            line |= {f"agrees_{m}": row.cells[m].agrees for m in MEASURES}
        lines.append(line)
    return pd.DataFrame(lines).to_csv(index=False)


def as_latex(table: ChangesTable) -> str:
    r"""A `tabular` for booktabs and xcolor (option table); large layers in grey as in the paper."""
    columns = 2 + len(HEADINGS) * (2 if table.beside_paper else 1)
    heads = ["Conv. Layer", "Filters"]
    for heading in _LATEX_HEADINGS.values():
        heads += [heading, "paper"] if table.beside_paper else [heading]
    lines = [
        f"% {table.title}",
        r"% needs \usepackage{booktabs} and \usepackage[table]{xcolor}",
        rf"\begin{{tabular}}{{l{'r' * (columns - 1)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        cells = [row.layer.replace("_", r"\_"), str(row.filters)]
        for measure in HEADINGS:
            differs = r" $\neq$" if row.cells[measure].agrees is False else ""
            cells.append(_latex(row.cells[measure].change) + differs)
            if table.beside_paper:
                cells.append(_latex(row.paper[measure]))
        shade = r"\rowcolor[gray]{0.85} " if row.large else ""
        lines.append(shade + " & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", *(f"% {line}" for line in table.reading)]
    return "\n".join(lines) + "\n"


def as_html(table: ChangesTable) -> str:
    """A page of its own that loads nothing."""
    heads = ["Conv. layer", "Filters"]
    for heading in HEADINGS.values():
        heads += [heading, "paper"] if table.beside_paper else [heading]
    rows = "\n".join(_html_row(row, table.beside_paper) for row in table.rows)
    return _PAGE.format(
        title=html.escape(table.title),
        heads="".join(f'<th scope="col">{html.escape(head)}</th>' for head in heads),
        rows=rows,
        reading="".join(f"<p>{html.escape(line)}</p>" for line in table.reading),
    )


FORMATS: Mapping[str, Callable[[ChangesTable], str]] = {
    "text": as_text,
    "csv": as_csv,
    "latex": as_latex,
    "html": as_html,
}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
caption {{ font-weight: 600; padding-bottom: .6rem; text-align: left }}
th, td {{ padding: .2rem .9rem; text-align: right }}
th:first-child, td:first-child {{ text-align: left }}
thead th {{ border-bottom: 2px solid currentColor }}
.scroll {{ overflow-x: auto }}
td {{ white-space: nowrap }}
tr.large {{ background: light-dark(#dcdcdc, #3a3a3a) }}
td.paper {{ opacity: .7 }}
td.agrees::after {{ content: " =" ; opacity: 0 }}
td.differs::after {{ content: " ≠" }}
</style></head><body>
<div class="scroll"><table><caption>{title}</caption><thead><tr>{heads}</tr></thead><tbody>
{rows}
</tbody></table></div>
{reading}
</body></html>
"""


def _reading(table: pd.DataFrame, rows: list[Row], beside_paper: bool) -> list[str]:
    """What the paper reads off its own table: in how many large and small layers each measure moved."""
    names = {"dip": "dip rose", "delta_opt": "δ_opt fell", "neighbours": "neighbours rose"}
    text = ["Change of the mean between the first and the last third of the epochs."]
    lines = [f"{names[s.measure]} in {_of(s)}" for s in summarise(table) if s.large_of or s.small_of]
    if lines:
        text.append(f"More clusterable: {'; '.join(lines)}.")
    else:
        text.append("No measure has values in both thirds; it takes three epochs or more.")
    if any(row.large for row in rows):
        text.append(f"Shaded, ■: {LARGE} filters or more.")
    else:
        text.append(f"No layer has {LARGE} filters or more; in the paper it is those that cluster.")
    if beside_paper:
        compared = [row.cells[m].agrees for row in rows for m in MEASURES if row.cells[m].agrees is not None]
        marked = "" if all(compared) else " (≠ where not)"
        text.append(f"Same sign as in the paper: {sum(map(bool, compared))} of {len(compared)} cells{marked}.")
    return text


def _notes(run: Run, sample: Sample | None, table: pd.DataFrame, share: bool) -> list[str]:
    """What a reader must know of the run to read its table."""
    notes, info = [], run.info
    if run.last_epoch < info.epochs_planned:
        notes.append(f"The run has {run.last_epoch} of {info.epochs_planned} epochs; it is {run.status}.")
    if run.prunings() and not share:
        notes.append(
            "Filters were cut in this run, and with them went neighbours of others: their number is not to be compared "
            "with a run without cuts, as the paper's is; their share is (--share)."
        )
    if sample not in (None, run.config.probe.dip):
        known = run.map_epochs()
        which = ", ".join(map(str, known)) if len(known) <= 8 else f"{known[0]} to {known[-1]}"
        notes.append(f"This dip was not logged: it is told from the distances stored at {len(known)} epochs ({which}).")
    elif len(without := table.loc[table["dip"].isna(), "layer"]) and "dip_reason" in (log := run.layers()):
        reasons = log[log["layer"].isin(without)]["dip_reason"].dropna().unique()
        if len(reasons):
            notes.append(f"No dip in a third of the epochs: {', '.join(without)} ({'; '.join(reasons)}).")
    return notes


def _of(summary: Summary) -> str:
    parts = []
    if summary.large_of:
        parts.append(f"{summary.large} of {summary.large_of} layers with {LARGE} filters or more")
    if summary.small_of:
        kind = "smaller ones" if summary.large_of else "layers"
        parts.append(f"{summary.small} of {summary.small_of} {kind}")
    return " and in ".join(parts)


def _marked(cell: Cell) -> Text:
    return Text(percent(cell.change) + (" ≠" if cell.agrees is False else "  " if cell.agrees else ""))


def _latex(change: float) -> str:
    if math.isnan(change):
        return "--"
    if math.isinf(change):
        return r"$\infty$" if change > 0 else r"$-\infty$"
    return f"${percent(change)[:-1].replace('−', '-')}$\\%"


def _html_row(row: Row, beside_paper: bool) -> str:
    cells = [f"<td>{html.escape(row.layer)}</td><td>{row.filters}</td>"]
    for measure in HEADINGS:
        cell = row.cells[measure]
        marked = "" if cell.agrees is None else ' class="agrees"' if cell.agrees else ' class="differs"'
        cells.append(f"<td{marked}>{percent(cell.change)}</td>")
        if beside_paper:
            cells.append(f'<td class="paper">{percent(row.paper[measure])}</td>')
    shade = ' class="large"' if row.large else ""
    return f"<tr{shade}>{''.join(cells)}</tr>"
