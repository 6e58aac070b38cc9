"""A table that is sorted, searched and ticked in the browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import anywidget
from traitlets import Bool, List, Unicode

from sauron_viz.widgets.base import script

Kind = Literal[
    "text", "number", "signed", "spread", "times", "percent", "change", "duration", "time", "status", "count", "long"
]


@dataclass(frozen=True)
class Column:
    """How the values under `key` are shown.

    Kinds: "number" with `digits`; "signed", the same with its sign; "spread", the same with what
    the row has under `key` + "_low" and "_high"; "times" as often; "percent" of a share in [0, 1], with a bar;
    "change" in percent with its sign; "duration" of seconds; "time" of ISO 8601 text; "status"; "count", which is
    shown with what the row has under `key` + "_of" behind it; "long" for text of several lines. One that is `optional`
    is left out where no row has a value.
    """

    key: str
    label: str
    kind: Kind = "text"
    hint: str = ""
    digits: int = 3
    optional: bool = False


class DataTable(anywidget.AnyWidget):
    """Rows that are tables of values by column key; `id` names a row, `shade` and `note` are optional.

    `sort` is [column, "up" | "down"], rows without a value come last either way; `ticked` are ids, `current` the one
    that is looked at. `unit` is what rows are called, `tickable` what ticking one does; where `opens` says what a click
    does, the first column is a button that calls `on_open` with the id. `export` is what is saved as CSV, if not what
    is seen.
    """

    _esm = script("table.js")
    title = Unicode().tag(sync=True)
    note = Unicode().tag(sync=True)
    empty = Unicode("Nothing to list yet.").tag(sync=True)
    source = Unicode().tag(sync=True)
    unit = Unicode("rows").tag(sync=True)
    columns = List().tag(sync=True)
    rows = List().tag(sync=True)
    sort = List(Unicode()).tag(sync=True)
    ticked = List(Unicode()).tag(sync=True)
    current = Unicode().tag(sync=True)
    tickable = Unicode().tag(sync=True)
    searchable = Bool(False).tag(sync=True)
    opens = Unicode().tag(sync=True)
    export = Unicode().tag(sync=True)

    def __init__(
        self, columns: Sequence[Column] = (), on_open: Callable[[str], None] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(columns=[vars(column) for column in columns if not column.optional], **kwargs)
        self._on_open, self._columns = on_open, tuple(columns)
        self.on_msg(self._answer)

    def fill(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show these rows; what is ticked and no longer there is forgotten."""
        known = {str(row["id"]) for row in rows}
        has = {column.key for column in self._columns for row in rows if row.get(column.key) not in (None, "")}
        with self.hold_sync():
            self.columns = [vars(column) for column in self._columns if not column.optional or column.key in has]
            self.rows = [dict(row) for row in rows]
            self.ticked = [name for name in self.ticked if name in known]

    def _answer(self, _widget: Any, content: dict[str, Any], _buffers: Any) -> None:
        wanted = content.get("open")
        if self._on_open is not None and wanted in [row["id"] for row in self.rows]:
            self._on_open(str(wanted))
