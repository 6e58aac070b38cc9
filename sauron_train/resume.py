"""Goes on with a run that was interrupted, from its last finished epoch if it has one, as if it had never stopped."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from sauron_train import ranks
from sauron_train.checkpoint import load_state
from sauron_train.config import Config, parse
from sauron_train.errors import ConfigError, DataError, RunError
from sauron_train.experiment import Experiment
from sauron_train.keys import lasting
from sauron_train.predict import dataset_of
from sauron_train.progress import Observer
from sauron_train.runlog import Run
from sauron_train.runlog.claim import claimed
from sauron_train.trainer import Trainer


def resume(
    run: Run, data: Path | None = None, observer: Observer | None = None, force: bool = False, cache: Path | None = None
) -> None:
    """Train the epochs that a stopped, failed or lost run lacks.

    On a CPU the result is, to the last bit, that of a run that was never interrupted.

    Args:
        run: the run; everything is refused before anything in its folder is changed.
        data: the data set, if it is not where it was.
        observer: told how it goes.
        force: go on although the run says that its process is alive.
        cache: folder of preprocessed cases; see `load_volumes`.

    Raises:
        RunError: nothing is left to do, what it would go on from is damaged, or another process trains the run.
        DataError: the data set is not there, or is another one.
        ConfigError: config.yaml was changed meanwhile.
    """
    observer = observer or Observer()
    with claimed(run.path) if ranks.leads() else nullcontext():
        if ranks.leads():
            _refuse(run, force)
        config, state = run.config, load_state(run.path, run.last_epoch) if run.last_epoch else {}
        if state:
            _refuse_changes(run, state, config)
        _refuse_missing(run, data)
        experiment = Experiment.prepare(config, dataset_of(run, data), observer.loading, cache)
        _refuse_other_split(run, experiment)
        trainer = Trainer(experiment, run.path, observer, state)
        del state  # twice the network that need not stay in memory
        trainer.run()


def _refuse(run: Run, force: bool) -> None:
    info = run.info
    if info.status == "finished":
        raise RunError(f"run {run.name} is finished, so there is nothing left to train")
    if run.status == "running" and not force:
        if info.host != socket.gethostname():
            raise RunError(
                f"run {run.name} says that it is training on {info.host}, which cannot be asked from here; if that is "
                "no longer so, go on with --force"
            )
        if info.pid != os.getpid():
            raise RunError(
                f"run {run.name} is training now, as process {info.pid}; stop it first (or go on with --force, if that "
                "process is something else by now)"
            )


def _refuse_changes(run: Run, state: Mapping[str, Any], config: Config) -> None:
    before, now = lasting(_completed(state.get("config", {}))), lasting(config.model_dump(by_alias=True, mode="json"))
    changed = [key for key in now if key not in before or now[key] != before[key]]
    if changed:
        raise ConfigError(
            f"{changed[0]} in config.yaml of run {run.name} is not what it was trained with until now; put it back, or "
            "start a new run"
        )


def _completed(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A configuration of an earlier version, with the keys that have come since as they are when nobody names them."""
    try:
        return parse(values).model_dump(by_alias=True, mode="json")
    except ConfigError:
        return values


def _refuse_missing(run: Run, data: Path | None) -> None:
    root = Path(run.info.data_root)
    if data is None and not root.is_dir():
        raise DataError(f"the data set of run {run.name} is not in {root} any more; say with --data where it is now")


def _refuse_other_split(run: Run, experiment: Experiment) -> None:
    info, split = run.info, experiment.split
    now = [tuple(case.name for case in side) for side in (split.train, split.validation)]
    if now != [info.train_cases, info.validation_cases]:
        raise RunError(
            f"this Sauron splits the cases of run {run.name} otherwise than the one that began it; go on with that one"
        )
