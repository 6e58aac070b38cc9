"""The form of a training, checked while it is filled in, and the configuration that comes of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sauron_train.config import Config
from sauron_train.errors import ConfigError, DataError, RunError, SauronError
from sauron_viz.training.allowed import Allowed, DataFolder
from sauron_viz.training.jobs import Jobs, check_name
from sauron_viz.training.request import (
    LINES,
    SETTINGS,
    Checked,
    Line,
    Setting,
    check,
    differences,
    doubt,
    explained,
    fit,
    value_of,
)
from sauron_viz.widgets.base import box, esc, text
from sauron_viz.widgets.controls import Select
from sauron_viz.widgets.entry import Entry

_OWN = "Recipes in the folders of data"
_NO_DATA = (
    "There is no data set in {}; one is a folder with a dataset.json (nnU-Net raw layout), or laid out as ACDC, KiTS19 "
    "or the Rats are handed out."
)


@dataclass(frozen=True)
class Asked:
    """What is to be trained: `recipe` and `changes` as the command takes them."""

    recipe: str
    data: Path
    name: str
    changes: tuple[str, ...]


class TrainingForm:
    """Fields and preview. Empty fields are as the recipe says; `on_change` is called when `ready` may have changed."""

    def __init__(self, allowed: Allowed, jobs: Jobs, guard: Callable[..., Callable[..., None]]) -> None:
        self.allowed, self.jobs = allowed, jobs
        self.on_change: Callable[[], None] = lambda: None
        self.ready = False
        self._checked = Checked(None, None, {})
        self._found: DataFolder | None = None
        self.recipe = Select(label="Recipe")
        self.data = Select(label="Data set")
        self.about = text("")
        self.name = Entry(label="Name of the run")
        self.fields: dict[str, Any] = {setting.key: _field(setting) for setting in SETTINGS}
        self.lines = Entry(
            label="Other keys",
            lines=3,
            placeholder="for example\noptimizer.lr=0.001\nprune.threshold_max=0.4",
            hint="One section.key=value a line, as for --set",
        )
        self.preview = text("", "sauron-card sauron-preview")
        self.widget = box(
            text("<h2>New training</h2>"),
            box(self.recipe, self.data, css="sauron-row sauron-close sauron-fill"),
            self.about,
            self.name,
            box(*self.fields.values(), css="sauron-fields", layout="grid"),
            self.lines,
            css="sauron-stack sauron-tight",
        )
        self.offer()
        self._begin()
        for widget in (self.recipe, self.data, self.name, self.lines, *self.fields.values()):
            widget.observe(guard(lambda _: self.check()), "value")
        self.check()

    def offer(self) -> None:
        """List the recipes and data sets that are there now."""
        known = self.allowed.recipes()
        recipes = [[key, key] if argument == key else [key, key, _OWN] for key, argument in known.items()]
        data = [[key, found.title] for key, found in self.allowed.datasets().items()]
        for select, options in ((self.recipe, recipes), (self.data, data)):
            if select.options != options:
                with select.hold_sync():
                    select.options = options
                    if select.value not in [option[0] for option in options]:
                        select.value = options[0][0] if options else ""

    def check(self) -> None:
        """Say what is wrong where it is wrong, and show what would be trained."""
        values = {key: widget.value for key, widget in self.fields.items()}
        try:
            argument = self.allowed.recipe(self.recipe.value)
            checked = check(argument, values, self.lines.value)
        except ConfigError as error:
            argument, checked = "", Checked(None, None, {"": str(error)})
        self._checked = checked
        self._found = self.allowed.datasets().get(self.data.value)
        general = [checked.problems[""]] if checked.problems.get("") else []
        for key, widget in self.fields.items():
            sentence = checked.problems.get(key, "")
            if isinstance(widget, Entry):
                widget.problem = sentence
                widget.placeholder = value_of(checked.recipe, key).strip("[]") if checked.recipe else ""
            else:
                general += [sentence] if sentence else []
                _name_default(widget, key, value_of(checked.recipe, key) if checked.recipe else "")
        self.lines.problem = checked.problems.get(LINES, "")
        self.name.placeholder = self.jobs.free_name(self.recipe.value.removesuffix(".yaml").removesuffix(".yml"))
        self.name.problem = self._name_problem()
        wrong, odd = self._data_problem(checked)
        self.about.value = _about(checked, self._about_data(), [*general, *([wrong] if wrong else [])], odd)
        self.ready = checked.config is not None and not wrong and not self.name.problem
        self._draw_preview(checked, argument)
        self.on_change()

    def request(self) -> Asked:
        """What is to be trained now.

        Raises:
            SauronError: something that was filled in cannot be used, or may not be trained here.
        """
        asked = self.unnamed()
        check_name(self.jobs.root, asked.name)
        return asked

    def unnamed(self) -> Asked:
        """The same whatever name the run is to have.

        Raises:
            SauronError: as for `request`.
        """
        self.check()
        recipe = self.allowed.recipe(self.recipe.value)
        data = self.allowed.dataset(self.data.value)
        if self._checked.config is None:
            raise ConfigError(next(iter(self._checked.problems.values())))
        if why := fit(data, self._checked.config):
            raise DataError(why)
        return Asked(recipe, data.path, self._name(), self._checked.changes)

    def _begin(self) -> None:
        """Choose a recipe that fits the first data set; those of the paper are made for theirs, and take days."""
        fitting: list[tuple[bool, str]] = []
        for key in [option[0] for option in self.recipe.options]:
            try:
                config = check(self.allowed.recipe(key), {}).config
                data = self.allowed.dataset(self.data.value)
            except SauronError:
                continue
            if config is not None and not fit(data, config) and not doubt(data, config):
                fitting.append((config.preset is not None, key))
        if fitting:
            self.recipe.value = min(fitting, key=lambda found: found[0])[1]

    def _name(self) -> str:
        return str(self.name.value).strip() or str(self.name.placeholder)

    def _name_problem(self) -> str:
        try:
            check_name(self.jobs.root, self._name())
        except RunError as error:
            return capital(str(error))
        job = self.jobs.of(self._name())
        return f"{self._name()} is being trained already" if job is not None and job.alive else ""

    def _about_data(self) -> str:
        found = self._found
        if found is None:
            return _NO_DATA.format(", ".join(map(str, self.allowed.folders)))
        return found.about if found.dataset else ""

    def _data_problem(self, checked: Checked) -> tuple[str, str]:
        """Why the data set cannot be trained on, and what is odd about it."""
        found = self._found
        if found is None:
            return (" " if not self.data.value else f"{self.data.value!r} is no data set that may be trained on"), ""
        config = checked.config or checked.recipe
        if config is None:
            return "", ""
        return fit(found, config), doubt(found, config)

    def _draw_preview(self, checked: Checked, recipe: str) -> None:
        if checked.recipe is None or checked.config is None:
            # What it was before the mistake stays, faded: it must not come and go with every letter that is typed.
            self.preview.add_class("sauron-stale")
            self.preview.value = self.preview.value or "<h2>Configuration</h2>"
            return
        self.preview.remove_class("sauron-stale")
        self.preview.value = self._preview(checked.config, checked.recipe, recipe, checked.changes)

    def _preview(self, config: Config, base: Config, recipe: str, changes: tuple[str, ...]) -> str:
        lines = explained(config, base)
        count = differences(lines)
        keys = f"{count} {'key differs' if count == 1 else 'keys differ'} from" if count else "As in"
        found = self._found
        words = ["sauron-train", "run", "--recipe", recipe, "--data", str(found.path) if found else "DATA"]
        words += ["--out", str(self.jobs.root / self._name())]
        for change in changes:
            words += ["--set", change]
        return (
            f'<h2>Configuration</h2><p class="sauron-note">{keys} the recipe {esc(self.recipe.value)}.</p>'
            f'<div class="sauron-yaml" tabindex="0" role="region" aria-label="Configuration as YAML">'
            f"{''.join(map(_line, lines))}</div>"
            f'<p class="sauron-note">The same in a terminal: <code>{esc(shlex.join(words))}</code></p>'
        )


def _field(setting: Setting) -> Any:
    if not setting.words:
        return Entry(label=setting.label, hint=setting.hint)
    options = [["", ""], *([value, name] for value, name in setting.words.items())]
    return Select(label=setting.label, hint=setting.hint, options=options)


def _name_default(select: Any, key: str, value: str) -> None:
    """What the empty choice stands for."""
    words = next(setting.words for setting in SETTINGS if setting.key == key)
    shown = f"{words.get(value.strip(chr(39)), value)} (recipe)"
    if select.options[0][1] != shown:
        select.options = [["", shown], *select.options[1:]]


def _about(checked: Checked, data: str, wrong: list[str], odd: str) -> str:
    parts = []
    if checked.recipe is not None and checked.recipe.description:
        parts.append(f'<p class="sauron-note"><b>Recipe</b> {esc(checked.recipe.description)}</p>')
    if data:
        parts.append(f'<p class="sauron-note"><b>Data</b> {esc(data)}</p>')
    parts += [
        f'<p class="sauron-alert" role="alert">{esc(capital(sentence))}</p>' for sentence in wrong if sentence.strip()
    ]
    if odd:
        parts.append(f'<p class="sauron-note sauron-odd" role="status">{esc(odd)}</p>')
    return "".join(parts)


def _line(line: Line) -> str:
    was = f"<em>recipe: {esc(line.was)}</em>" if line.was is not None else ""
    comment = f"<small>{esc(line.comment)}</small>" if line.comment else ""
    css = ' class="changed"' if line.was is not None else ""
    return f"<div{css}><code>{esc(line.text)}</code><span>{was}{comment}</span></div>"


def capital(sentence: str) -> str:
    """As a sentence begins."""
    return sentence[:1].upper() + sentence[1:]
