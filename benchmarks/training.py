"""Trainings of a study, which are kept: one that is finished is not done again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from sauron_train.errors import SauronError
from sauron_train.runlog import Run


def train(recipe: str, data: Path, folder: Path, settings: Iterable[str]) -> None:
    """Train a recipe with changed settings on one thread, its log beside the folder; what was left half is redone."""
    if finished(folder):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    words = ["run", "--recipe", recipe, "--data", str(data), "--out", str(folder)]
    words += [word for setting in ("data.workers=0", *settings) for word in ("--set", setting)]
    program = [sys.executable, "-c", "from sauron_train.cli import main; main()", *words]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with folder.with_suffix(".log").open("w") as log:
        subprocess.run(program, check=True, env=one_thread, stdout=log, stderr=subprocess.STDOUT)


def finished(folder: Path) -> bool:
    """Whether a run was trained to its end."""
    try:
        return Run(folder).info.status == "finished"
    except SauronError:
        return False
