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
from sauron_train.runlog import Run, files
from sauron_train.runlog.claim import claimed
from sauron_train.runlog.ledger import changed_since
from sauron_train.trainer import Trainer


def resume(
    run: Run,
    data: Path | None = None,
    observer: Observer | None = None,
    force: bool = False,
    cache: Path | None = None,
    extend: int | None = None,
) -> None:
    """Train the epochs that a stopped, failed or lost run lacks, or give a finished one more.

    On a CPU the result is, to the last bit, that of a run that was never interrupted.

    A finished run that is extended goes on with its optimizer, thresholds and generators; its learning rate is that of
    the schedule for all epochs together, (1 - e / E)^power with the new E, so it rises where it goes on (design choice:
    the rule stays the one that config.yaml states). It is not the run that E epochs from the start would have been.

    Args:
        run: the run; everything is refused before anything in its folder is changed.
        data: the data set, if it is not where it was.
        observer: told how it goes.
        force: go on although the run says that its process is alive, and with logs that are not what they were.
        cache: folder of preprocessed cases; see `load_volumes`.
        extend: so many epochs more, for a run that is finished.

    Raises:
        RunError: nothing is left to do, what it would go on from is damaged, or another process trains the run.
        DataError: the data set is not there, or is another one.
        ConfigError: config.yaml was changed meanwhile.
    """
    observer = observer or Observer()
    with claimed(run.path) if ranks.leads() else nullcontext():
        if ranks.leads():
            _refuse(run, force, extend)
            _refuse_damage(run, force)
        config, state = run.config, load_state(run.path, run.last_epoch) if run.last_epoch else {}
        if state:
            _refuse_changes(run, state, config, extend is not None)
        _refuse_missing(run, data)
        if extend is not None:
            config = config.model_copy(update={"epochs": run.info.epochs_planned + extend})
        experiment = Experiment.prepare(config, dataset_of(run, data), observer.loading, cache, observer.remark)
        _refuse_other_split(run, experiment)
        if extend is not None and ranks.leads():
            # run.json says last that there is more to do: until then the command may be given again.
            files.write_atomically(run.path / files.CONFIG, config.to_yaml())
        trainer = Trainer(experiment, run.path, observer, state)
        del state  # twice the network that need not stay in memory
        trainer.run()


def _refuse(run: Run, force: bool, extend: int | None) -> None:
    info = run.info
    if extend is not None and extend < 1:
        raise ConfigError(f"a run cannot be extended by {extend} epochs; give 1 or more")
    if info.status == "finished" and extend is None:
        raise RunError(f"run {run.name} is finished, so there is nothing left to train; --extend EPOCHS gives it more")
    if info.status != "finished" and extend is not None:
        raise RunError(
            f"run {run.name} has not finished its {info.epochs_planned} epochs; resume it first, without --extend"
        )
    if extend is not None and not (run.path / files.resume_file(run.last_epoch)).is_file():
        state = files.resume_file(run.last_epoch)
        why = "it was taken away, or the run was made from another one, or by an earlier version"
        if (run.path / files.DAMAGED / state).is_file():
            why = f"it was damaged, and lies in {run.path / files.DAMAGED}"
        raise RunError(
            f"run {run.name} did not keep what it takes to go on ({state}): {why}; train it anew with more epochs"
        )
    if run.status == "running" and not force:
        if info.host != socket.gethostname():
            raise RunError(
                f"run {run.name} says that it is training on {info.host}, which cannot be asked from here; if that is "
                "no longer so, go on with --force"
            )
        if info.pid != os.getpid():
            # Runs of earlier versions know their process by its number alone.
            doubt = "" if info.process_identity else " (or go on with --force, if that is something else by now)"
            raise RunError(f"run {run.name} is training now, as process {info.pid}; stop it first{doubt}")


def _refuse_damage(run: Run, force: bool) -> None:
    """Whatever is trained from here on would be listed as whole together with what is not."""
    last = run.last_epoch
    state = files.resume_file(last)
    if changed_since(run.path, last, [state]) and (run.path / state).is_file():
        raise RunError(
            f"{run.path / state} is not what was written at epoch {last}, so the run would go on otherwise than it "
            "began; put the file back from a copy (`sauron-train check` tells what else is damaged)"
        )
    tables = changed_since(run.path, last, (files.EPOCHS, files.LAYERS, files.PRUNINGS))
    if tables and not force:
        raise RunError(
            f"{run.path / tables[0]} is not what it was at epoch {last} (`sauron-train check` tells more); put it back "
            "from a copy, or go on with it as it is with --force"
        )


def _refuse_changes(run: Run, state: Mapping[str, Any], config: Config, extending: bool) -> None:
    before, now = lasting(_completed(state.get("config", {}))), lasting(config.model_dump(by_alias=True, mode="json"))
    changed = [key for key in now if key not in before or now[key] != before[key]]
    if extending or state["epoch"] in run.info.extended:
        changed = [key for key in changed if key != "epochs"]
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
