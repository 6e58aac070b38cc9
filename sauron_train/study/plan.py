"""From a study file to the runs that it asks for: which, in which order, and by which command each begins."""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sauron_train import recipes
from sauron_train.config import Config, parse
from sauron_train.errors import ConfigError
from sauron_train.keys import lasting, with_overrides
from sauron_train.rival_config import rival_config
from sauron_train.study.file import Arm, Keys, RivalArm, Study


@dataclass(frozen=True)
class Asked:
    """What the command line says otherwise than the file, and where things are.

    `recipes` and `data` go by arm; "" stands for all arms that are not named. `training` says whether data are needed.
    """

    out: Path
    recipes: Mapping[str, str]
    data: Mapping[str, str]
    changes: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    training: bool = True


@dataclass(frozen=True)
class Planned:
    """One run of a study.

    Attributes:
        name: of its folder.
        arm: which setting, values of the grid included.
        seed: its seed.
        fold: which fold validates; None without cross-validation.
        config: what it is trained by; of a rival all but `rival.flops`, which the run that it is matched with decides.
        begin: words after `sauron-train` that begin it.
        folder: its run folder.
        data: folder of its data set.
        needs: names of the runs that must be finished before.
        wanted: whether `--only` and `--seed` leave it in.
        setting: the arm without the values of the grid.
        grid: key to value of the grid.
    """

    name: str
    arm: str
    seed: int
    fold: int | None
    config: Config
    begin: tuple[str, ...]
    folder: Path
    data: str
    needs: tuple[str, ...] = ()
    wanted: bool = True
    setting: str = ""
    grid: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def is_beside(self, baseline: Planned) -> bool:
        """Whether it is compared with that run: of the same seed and fold, and of no other value of the grid."""
        # Of the configurations, because an arm may have set a key itself that the baseline goes through.
        mine, other = self.keys, baseline.keys
        alike = all(mine[key] == other[key] for key in baseline.grid if key in mine)
        return alike and (self.seed, self.fold) == (baseline.seed, baseline.fold)

    @property
    def keys(self) -> dict[str, Any]:
        """What it is trained by, in dotted form; only what makes the network what it is."""
        return lasting(self.config.model_dump(by_alias=True, mode="json"))


def plan(study: Study, asked: Asked) -> list[Planned]:
    """All runs of a study, wanted or not, in the order in which they are to begin.

    That is the first seed and fold of every arm, then the next, so that a study which is stopped early still compares.

    Raises:
        ConfigError: a recipe, a key or a value that cannot be used, an arm without data, or an unknown `--only`.
    """
    _check_arms(study, asked)
    _check_keys(study, asked)
    planned: dict[str, Planned] = {}
    folds: Sequence[int | None] = (None,) if study.folds is None else range(study.folds)
    for seed, fold in itertools.product(study.seeds, folds):
        for name, arm in study.arms.items():
            if isinstance(arm, Arm):
                for grid in _grid(study, arm):
                    _add(planned, _trained(study, name, arm, grid, asked, seed, fold))
        for name, arm in study.arms.items():
            if isinstance(arm, RivalArm):
                _add(planned, _rival(study, name, arm, planned, asked, seed, fold))
    return list(planned.values())


def by_arm(values: Sequence[str], study: Study, option: str) -> dict[str, str]:
    """Values for all arms or, as in `rats=DATA`, for one.

    Raises:
        ConfigError: two for the same arm, or an arm that the study does not have.
    """
    found: dict[str, str] = {}
    for value in values:
        arm, equals, rest = value.partition("=")
        if equals and arm not in study.arms and os.sep not in arm and not Path(value).exists():
            raise ConfigError(f"{option} {value}: {_unknown_arm(arm, study)}")
        name, what = (arm, rest) if equals and arm in study.arms else ("", value)
        if name in found:
            whom = f"arm {name}" if name else "all arms"
            raise ConfigError(f"{option} is given twice for {whom}; with several, name arms as in {option} ARM=VALUE")
        found[name] = what
    return found


def as_told(study: Study, asked: Asked) -> Study:
    """The study whose file says itself what the command line said: recipes, folders (absolute) and keys."""
    arms: dict[str, Arm | RivalArm] = {}
    for name, arm in study.arms.items():
        if isinstance(arm, Arm):
            recipe = asked.recipes.get(name) or (None if "" in asked.recipes else arm.recipe)
            data = asked.data.get(name) or (None if "" in asked.data else arm.data and _absolute(arm.data))
            arms[name] = arm.model_copy(update={"recipe": recipe, "data": data})
        else:
            arms[name] = arm
    keys: dict[str, Any] = {}
    for key, _, text in (change.partition("=") for change in (*as_changes(study.set_), *asked.changes)):
        # At its last place, because a preset lies over what comes before it.
        keys.pop(key.strip(), None)
        keys[key.strip()] = yaml.safe_load(text)
    told = {
        "recipe": asked.recipes.get("", study.recipe),
        "data": asked.data.get("") or (study.data and _absolute(study.data)),
        "set_": keys,
    }
    return study.model_copy(update={**told, "arms": arms})


def as_changes(keys: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys, dotted or nested, as `section.key=value` with values as YAML."""
    changes: list[str] = []
    for key, value in keys.items():
        if isinstance(value, Mapping):
            changes += as_changes(value, f"{prefix}{key}.")
        else:
            text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
            changes.append(f"{prefix}{key}={text.strip().removesuffix('...').strip()}")
    return changes


def _check_arms(study: Study, asked: Asked) -> None:
    for name in asked.only:
        if name not in study.arms:
            raise ConfigError(f"--only {name}: {_unknown_arm(name, study)}")
    for seed in asked.seeds:
        if seed not in study.seeds:
            raise ConfigError(
                f"--seed {seed}: the study has the seeds {', '.join(map(str, study.seeds))}; add it to its file"
            )


def _unknown_arm(name: str, study: Study) -> str:
    near = difflib.get_close_matches(name, study.arms, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(study.arms)}"
    return f"the study has no arm {name!r}; {hint}"


def _check_keys(study: Study, asked: Asked) -> None:
    """Refuse keys that the study sets itself for every run: they would be set and silently be something else."""
    own = {"seed": "seeds"} | ({"data.folds": "folds", "data.fold": "folds"} if study.folds else {})
    given = [*as_changes(study.set_), *asked.changes, *as_changes(study.grid)]
    for change in (*given, *(change for arm in study.arms.values() for change in as_changes(arm.set_))):
        key = change.partition("=")[0].strip()
        if key in own:
            raise ConfigError(f"{key} is not for the study to set, as in {change!r}: give {own[key]} in its file")


def _absolute(folder: str) -> str:
    return str(Path(folder).expanduser().absolute())


def _wanted(study: Study, name: str, asked: Asked, seed: int) -> bool:
    """Whether an arm is named, or what a rival that is named begins with, and the seed is."""
    if asked.seeds and seed not in asked.seeds:
        return False
    if not asked.only or name in asked.only:
        return True
    rivals = [study.arms[other] for other in asked.only]
    return any(isinstance(arm, RivalArm) and name in (arm.of, arm.match) for arm in rivals)


def _grid(study: Study, arm: Arm) -> Iterator[Keys]:
    """All combinations, without the keys that the arm gives itself: a baseline with λ = 0 is one for every λ."""
    own = {change.partition("=")[0] for change in as_changes(arm.set_)}
    left = {key: values for key, values in study.grid.items() if key not in own}
    for values in itertools.product(*left.values()):
        yield dict(zip(left, values, strict=True))


def _add(planned: dict[str, Planned], run: Planned) -> None:
    if run.name in planned:
        raise ConfigError(f"two runs of the study would be called {run.name}; name its arms otherwise")
    planned[run.name] = run


def _trained(study: Study, name: str, arm: Arm, grid: Keys, asked: Asked, seed: int, fold: int | None) -> Planned:
    recipe = asked.recipes.get(name) or asked.recipes.get("") or arm.recipe or study.recipe
    in_file = arm.data or study.data
    data = asked.data.get(name) or asked.data.get("") or (in_file and _absolute(in_file)) or ""
    wanted = _wanted(study, name, asked, seed)
    if asked.training and wanted and not data:
        raise ConfigError(
            f"no data set is named for arm {name}; give --data DATA, or --data {name}=DATA where arms have others, or "
            "leave arms out with --only"
        )
    changes = [
        *as_changes(study.set_),
        *asked.changes,
        *as_changes(arm.set_),
        *as_changes(grid),
        *as_changes(_place(study, seed, fold)),
    ]
    try:
        config = parse(with_overrides(recipes.load(recipe), changes))
    except ConfigError as error:
        raise ConfigError(f"arm {name}: {error}") from None
    full = "_".join([name, *(f"{key.split('.')[-1]}_{_in_a_name(value)}" for key, value in grid.items())])
    folder = asked.out / _run_name(full, seed, fold)
    words = ("run", "--recipe", recipe, "--data", data, "--out", str(folder))
    begin = (*words, *(word for change in changes for word in ("--set", change)))
    return Planned(folder.name, full, seed, fold, config, begin, folder, data, wanted=wanted, setting=name, grid=grid)


def _rival(
    study: Study, name: str, arm: RivalArm, planned: Mapping[str, Planned], asked: Asked, seed: int, fold: int | None
) -> Planned:
    base, match = (planned[_run_name(other, seed, fold)] for other in (arm.of, arm.match))
    if not match.config.prune.enabled:
        raise ConfigError(f"arm {name} is matched with {arm.match}, which is not pruned; name one that is, with match")
    epochs = arm.epochs(base.config.epochs)
    changes = as_changes(arm.set_)
    try:
        config = rival_config(base.config, arm.rival, 1.0, epochs, changes)
    except ConfigError as error:
        raise ConfigError(f"arm {name}: {error}") from None
    folder = asked.out / _run_name(name, seed, fold)
    words = ("rival", str(base.folder), "--method", arm.rival, "--match", str(match.folder))
    more = ("--fine-tune", str(epochs), "--data", base.data, "--out", str(folder))
    begin = (*words, *more, *(word for change in changes for word in ("--set", change)))
    needs, wanted = (base.name, match.name), _wanted(study, name, asked, seed)
    return Planned(folder.name, name, seed, fold, config, begin, folder, base.data, needs, wanted, name)


def _place(study: Study, seed: int, fold: int | None) -> Keys:
    return {"seed": seed} if fold is None else {"seed": seed, "data.folds": study.folds, "data.fold": fold}


def _run_name(arm: str, seed: int, fold: int | None) -> str:
    return f"{arm}_seed_{seed}" + ("" if fold is None else f"_fold_{fold}")


def _in_a_name(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in text).strip("_")
