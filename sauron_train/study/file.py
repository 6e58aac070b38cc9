"""What a study file says, checked (docs/studies.md describes it)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from sauron_train.config_data import Section
from sauron_train.errors import ConfigError
from sauron_train.keys import load_yaml
from sauron_train.mistakes import sentence

Keys = dict[str, Any]
Ending = Literal["comparison", "table4", "maps"]
FOLDER = "studies"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class RivalArm(Section):
    """An arm that is another method: the network of one arm is cut at once to the FLOPs of another, and fine-tuned."""

    rival: Literal["fpgm", "l1"]
    of: str = Field("baseline", description="arm whose trained network of the same seed and fold is cut")
    match: str = Field("sauron", description="arm whose final FLOPs, of the same seed and fold, may be left")
    fine_tune: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.25,
        description="epochs of training after the cut, or as 0.25 to 1.0 (with a point) a share of the epochs that its "
        "network was trained",
    )
    set_: Keys = Field({}, alias="set", description="how it is trained on, such as optimizer.lr")

    def epochs(self, trained: int) -> int:
        """Epochs of fine-tuning after so many of training."""
        return self.fine_tune if isinstance(self.fine_tune, int) else max(round(self.fine_tune * trained), 1)


class Arm(Section):
    """A setting: what is trained otherwise than by the other arms."""

    recipe: str | None = Field(None, description="another recipe than the study's")
    data: str | None = Field(None, description="another data set than the study's; --data ARM=FOLDER wins over it")
    set_: Keys = Field({}, alias="set", description="keys of the recipe that are others in this arm")


class Study(Section):
    """A grid of settings, seeds and folds, and what it ends in."""

    name: str = ""
    description: str = ""
    recipe: str = Field(description="name or path of the recipe that all arms begin with")
    data: str | None = Field(None, description="folder of the data set, from the current one; --data wins over it")
    set_: Keys = Field({}, alias="set", description="keys of the recipe that are others in every arm")
    arms: dict[str, Arm | RivalArm] = Field(min_length=1, description="name of a setting to what is special to it")
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {}, description="key to its values: arms are trained with all combinations of those that they do not set"
    )
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0,), min_length=1)
    folds: int | None = Field(None, ge=2, description="cross-validation with so many folds, for every seed")
    baseline: str | None = Field(None, description="arm from which differences are taken; null = that of this name")
    evaluate: bool = Field(False, description="whether finished runs are scored on the original grid too")
    ends_in: tuple[Ending, ...] = Field((), description="what is shown at the end beside the table")

    @field_validator("arms", mode="before")
    @classmethod
    def _kinds(cls, arms: Any) -> Any:
        """An arm's keys may be given directly: `maps: {loss.normalization: maps}`."""
        if not isinstance(arms, Mapping):
            return arms
        return {str(name): _arm(str(name), keys) for name, keys in arms.items()}

    @model_validator(mode="after")
    def _parts_agree(self) -> Study:
        for name, arm in self.arms.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"arm {name!r} names folders, so it may hold letters, digits, '_', '-' and '.' only")
            if isinstance(arm, RivalArm):
                self._check_rival(name, arm)
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} names one twice")
        if self.baseline is not None and self.baseline not in self.arms:
            raise ValueError(f"baseline is {self.baseline!r}, which is no arm{_near(self.baseline, self.arms)}")
        return self

    def _check_rival(self, name: str, arm: RivalArm) -> None:
        if self.grid:
            raise ValueError(f"arm {name} is a rival, for which a grid leaves open what it is matched with; write arms")
        for key, other in (("of", arm.of), ("match", arm.match)):
            if other not in self.arms:
                raise ValueError(f"{key!r} of arm {name} is {other!r}, which is no arm{_near(other, self.arms)}")
            if isinstance(self.arms[other], RivalArm):
                raise ValueError(f"{key!r} of arm {name} is {other}, a rival itself; name an arm that is trained")


def load(path: Path) -> Study:
    """Read a study file.

    Raises:
        ConfigError: it is not there, or something in it cannot be used.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        inside = Path(FOLDER) / f"{path.name}.yaml"
        hint = f"did you mean {inside}?" if inside.is_file() else f"those that come with Sauron are in {FOLDER}/"
        raise ConfigError(f"there is no study file {path}; {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the study file {path} cannot be read: {error}") from None
    values = load_yaml(text, str(path))
    try:
        study = Study.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {sentence(error, _keys(), listing=_LISTED)}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return study if study.name else study.model_copy(update={"name": path.stem})


_LISTED = "docs/studies.md lists all keys"


def _keys() -> list[str]:
    return [field.alias or name for name, field in Study.model_fields.items()]


def _arm(name: str, keys: Any) -> Any:
    if keys is None:
        return Arm()
    if not isinstance(keys, Mapping):
        raise ConfigError(f"arm {name} must be a table of keys and values, such as {{loss.lambda: 0}} (it is {keys!r})")
    for key in ("of", "match", "fine_tune"):
        if key in keys and "rival" not in keys:
            raise ConfigError(f"arm {name} has {key}, which is for rivals; say which one it is, as in rival: fpgm")
    kind = RivalArm if "rival" in keys else Arm
    own = {field.alias or key for key, field in kind.model_fields.items()}
    given = {key: value for key, value in keys.items() if key in own}
    given["set"] = {**(given.get("set") or {}), **{key: value for key, value in keys.items() if key not in own}}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise ConfigError(f"arm {name}: {sentence(error, sorted(own), listing=_LISTED)}") from None


def _near(name: str, arms: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, arms, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(arms)}"
