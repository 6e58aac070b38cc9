"""What a study's folder must hold before anything is trained in it: its own copy of the file, and no other runs."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from sauron_train.config import Config
from sauron_train.errors import ConfigError, RunError, SauronError
from sauron_train.keys import lasting
from sauron_train.runlog import Run, find_runs
from sauron_train.runlog.files import write_atomically
from sauron_train.study.file import Study
from sauron_train.study.plan import Asked, Planned, as_told

COPY = "study.yaml"
# Known only when the run that it is matched with is finished.
_LATER = "rival.flops"


def check_folder(out: Path, planned: Sequence[Planned]) -> None:
    """Refuse a folder whose runs are not those of the plan.

    Arms, seeds and values of the grid may come in addition; a run that was begun stays what it is.

    Raises:
        RunError: a run that the study does not name, or that was begun with other settings; a folder that is a run or
            holds something else.
    """
    if not out.exists():
        return
    if (out / "run.json").is_file():
        raise RunError(f"{out} is a run folder; choose a folder for the whole study with --out")
    known = {run.name: run for run in planned}
    # Runs of another study may be copied into a new one that has them too, so that they are not trained twice.
    if not out.is_dir() or not ((out / COPY).is_file() or {entry.name for entry in out.iterdir()} <= known.keys()):
        raise RunError(f"{out} is there already and no study; choose another --out")
    for run in find_runs(out):
        name = run.path.relative_to(out).as_posix()
        if name not in known:
            raise RunError(
                f"run {name} is in {out}, but not in the study any more; put back its arm, seed or fold, or begin "
                "another study with --out"
            )
        _refuse_other(run, known[name].config, name)


def keep_copy(out: Path, study: Study, asked: Asked) -> None:
    """Write into its folder what the study is, as a study file that says what the command line said too.

    Raises:
        RunError: the folder cannot be made.
    """
    values = as_told(study, asked).model_dump(by_alias=True, mode="json", exclude_none=True)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    about = "# The study as it was started, options of the command line included; a study file like any other.\n"
    try:
        write_atomically(out / COPY, about + text)
    except OSError as error:
        raise RunError(f"the study's folder {out} cannot be made: {error.strerror}") from None


@contextmanager
def working_in(out: Path) -> Iterator[None]:
    """Keep other studies from working in a folder while the block runs; it is made if need be.

    Raises:
        RunError: one does, or the folder cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise RunError(f"the study's folder {out} cannot be made: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"another `sauron-train study` works in {out} now; wait until it is done, or stop it"
            ) from None
        except OSError:
            # Some network file systems know no locks of folders; each run has its own guard too.
            pass
        yield
    finally:
        os.close(handle)


def _refuse_other(run: Run, config: Config, name: str) -> None:
    try:
        begun = run.config
    except SauronError as error:
        raise RunError(f"run {name} cannot be gone on with: {error}") from None
    before, now = (_flat(each) for each in (begun, config))
    changed = [key for key in now if before.get(key) != now[key] and key != _LATER]
    if changed:
        raise ConfigError(
            f"run {name} began with {changed[0]} {before.get(changed[0])}, but the study says {now[changed[0]]} now; "
            "put it back, name the arm otherwise, or begin another study with --out"
        )


def _flat(config: Config) -> Mapping[str, Any]:
    return lasting(config.model_dump(by_alias=True, mode="json"))
