"""Several processes train the network that one would have trained, and end together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from sauron_train import recipes
from sauron_train.checkpoint import load_model
from sauron_train.config import Config, parse
from sauron_train.data.loader import Share
from sauron_train.data.phantom import make_phantom
from sauron_train.errors import ConfigError
from sauron_train.experiment import Experiment
from sauron_train.keys import with_overrides
from sauron_train.progress import Observer
from sauron_train.pruning.compensation import ReaderMoments
from sauron_train.resume import resume
from sauron_train.runlog import EpochRow, Run
from sauron_train.trainer import Trainer

# Sixteen slices in batches of five: parts of three and two, and a last batch that is too small to be shared.
TINY = [
    "epochs=4", "data.patch=[32, 32]", "data.steps_per_epoch=null", "data.batch_size=5", "data.validation=0.5",
    "data.workers=0", "network.init_filters=6", "network.levels=3", "probe.images=1", "hardware.accelerator=cpu",
    "prune.first_epoch=1", "prune.last_epoch=4", "prune.batches=2", "prune.threshold_start=0.4",
    "prune.threshold_max=0.6", "prune.kappa=5", "prune.patience=1", "optimizer.lr=0.001",
]  # fmt: skip
PLAIN = [
    *TINY, "epochs=3", "prune.last_epoch=3", "optimizer.name=sgd", "optimizer.lr=0.01", "loss.reference=random",
    "prune.compensate=none", "prune.references=one", "loss.normalization=distances", "prune.threshold_start=0.5",
]  # fmt: skip
# Measures that jump where a distance changes by nothing; δ_opt is of the same distances.
JUMPS = ["dip", "dip_p", "neighbours"]
PROGRAM = Path(__file__).with_name("by_processes.py")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("data") / "phantom", dim=2, cases=6, seed=1, size=(40, 40, 5))


def tiny(changes: list[str]) -> Config:
    return parse(with_overrides(recipes.load("phantom2d"), changes))


def by_one(config: Config, data: Path, out: Path) -> Run:
    Trainer(Experiment.prepare(config, data), out).run()
    return Run(out)


def words(data: Path, out: Path, changes: list[str]) -> list[str]:
    return ["run", "--recipe", "phantom2d", "--data", str(data), "--out", str(out), *(f"--set={c}" for c in changes)]


def surroundings() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}


def by_two(*commands: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    """Commands one after the other, in two processes that torchrun starts once."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.run(
        [*torchrun, str(PROGRAM), json.dumps(commands)],
        capture_output=True, text=True, check=False, env=surroundings(), timeout=300,
    )  # fmt: skip


def assert_alike(run: Run, expected: Run) -> None:
    """The same but for the order in which numbers were added up.

    Where an extremum changes its place or a filter is nearly dead, a last bit of one epoch is 1e-5 in the next, with
    one process too.
    """
    for ours, theirs in ((run.epochs(), expected.epochs()), (run.layers(), expected.layers())):
        assert list(ours) == list(theirs)
        assert len(ours) == len(theirs)
        for column in ours.columns.difference(["seconds", "seconds_training", "memory_mb", *JUMPS]):
            if pd.api.types.is_float_dtype(ours[column]):
                np.testing.assert_allclose(ours[column], theirs[column], rtol=2e-3, atol=2e-4, err_msg=column)
            else:
                assert ours[column].tolist() == theirs[column].tolist(), column
    decided = [
        [
            (p.epoch, p.layer, p.threshold, p.reference, [(f.filter, f.reference) for f in p.removed])
            for p in r.prunings()
        ]
        for r in (run, expected)
    ]
    assert decided[0] == decided[1]
    assert len({epoch for epoch, *_ in decided[0]}) > 1, "filters went in more than one epoch"
    ours, theirs = (load_model(r.checkpoints()[r.last_epoch])[0] for r in (run, expected))
    assert ours.spec == theirs.spec
    for (name, weight), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        # Where a norm takes the mean away a bias has no effect and no gradient but noise, which Adam makes large.
        if not name.endswith("conv.bias"):
            torch.testing.assert_close(weight, other, rtol=5e-3, atol=5e-4, msg=name)


class Stopper(Observer):
    """Presses Ctrl-C after the second epoch."""

    def epoch(self, row: EpochRow) -> None:
        if row.epoch == 2:
            raise KeyboardInterrupt


def test_two_processes_train_what_one_trains(phantom: Path, tmp_path: Path) -> None:
    trainer = Trainer(Experiment.prepare(tiny(TINY), phantom), tmp_path / "begun by one", Stopper())
    assert trainer.experiment.batch_sizes() == [5, 5, 5, 1]
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    begun = Run(tmp_path / "begun by one")
    # They are started once for all of it: to import what they need takes longer than to train.
    done = by_two(
        {"words": words(phantom, tmp_path / "merged", TINY)},
        {"words": words(phantom, tmp_path / "plain", PLAIN)},
        {"words": words(phantom, tmp_path / "no number", TINY), "spoil": [2, "nan"]},
        {"words": ["resume", str(begun.path)], "spoil": [4, "error"]},
    )
    for name, changes in (("merged", TINY), ("plain", PLAIN)):
        run = Run(tmp_path / name)
        assert (run.status, run.info.processes) == ("finished", 2), done.stderr
        assert_alike(run, by_one(tiny(changes), phantom, tmp_path / f"{name} by one"))

    no_number = Run(tmp_path / "no number")
    says = no_number.info.message
    assert (no_number.status, no_number.last_epoch) == ("failed", 1)
    named = says.removeprefix("the loss is nan in epoch 2 at the cases ").split(";")[0].split(", ")
    assert set(named) <= set(no_number.info.train_cases)
    assert done.stderr.count(f"error: {says}\n") == 1

    sentence = "the disk of this machine is not there any more; mount it again"
    assert (begun.status, begun.info.message, begun.last_epoch) == ("failed", sentence, 3)
    assert done.returncode != 0
    assert done.stderr.count(f"error: {sentence}\n") == 1
    assert done.stderr.count("error: ") == 2
    assert done.stdout.count("cases to train on") == 4, "one of the processes speaks"

    resume(begun)
    assert (begun.status, begun.info.processes) == ("finished", 1)
    assert_alike(begun, Run(tmp_path / "merged by one"))


@pytest.mark.soak
def test_one_command_starts_them_and_ctrl_c_stops_them_all(phantom: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = words(phantom, out, [*TINY, "epochs=500", "prune.last_epoch=null", "hardware.devices=2"])
    with subprocess.Popen(
        [sys.executable, "-m", "sauron_train", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings(),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert any(line.split()[:1] == ["epoch"] for line in process.stdout)
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate()
    run = Run(out)
    assert (process.returncode, run.status, run.info.message) == (130, "stopped", "interrupted by the user")
    assert run.info.processes == 2
    assert said.count("with: sauron-train resume") == 1
    assert complaints == ""


@pytest.mark.parametrize("among", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [1, 2, 4, 7])
def test_shares_of_a_batch_make_the_whole(size: int, among: int) -> None:
    shares = [Share(place, among) for place in range(among)]
    batch = torch.rand(size, dtype=torch.float64)
    assert torch.cat([batch[share.own(size)] for share in shares]).equal(batch)
    counted = [share.counted(batch[share.taken(size)], size) for share in shares]
    assert torch.cat(counted).equal(batch)
    means = [share.weight(size) * batch[share.taken(size)].mean() for share in shares]
    assert sum(means) / among == pytest.approx(batch.mean().item())
    assert max(map(len, counted)) - min(map(len, counted)) <= 1


def test_moments_of_several_processes_are_those_of_all_voxels() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [100 + torch.randn(n, 5, 4, 6, generator=generator) for n in (2, 1)]
    every = [ReaderMoments() for _ in range(3)]  # the last one has counted nothing
    for moments, batch in zip(every, batches, strict=False):
        moments.add(batch)
    meeting = threading.Barrier(len(every))
    given: dict[int, torch.Tensor] = {}

    def gather(place: int) -> None:
        def total(tensor: torch.Tensor) -> torch.Tensor:
            given[place] = tensor
            meeting.wait(60)
            result = torch.stack([given[other] for other in range(len(every))]).sum(dim=0)
            meeting.wait(60)
            return result

        every[place].gather(5, total)

    threads = [threading.Thread(target=gather, args=(place,)) for place in range(len(every))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    voxels = torch.cat(batches).double().movedim(1, 0).flatten(1)
    for moments in every:
        torch.testing.assert_close(moments.mean, voxels.mean(dim=1))
        torch.testing.assert_close(moments.covariance, voxels.cov(correction=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["data.batch_size=1"], "data.batch_size is 1, but 2 processes share each batch; raise it to 2 or more"),
        (["hardware.accelerator=gpu"], "cannot be used here by 2 processes"),
    ],
)
def test_what_several_processes_cannot_train_is_said(
    monkeypatch: pytest.MonkeyPatch, phantom: Path, tmp_path: Path, changes: list[str], sentence: str
) -> None:
    if "hardware.accelerator=gpu" in changes and torch.cuda.device_count() > 1:
        pytest.skip("there are two GPUs here")
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=sentence):
        Trainer(Experiment.prepare(tiny([*TINY, *changes]), phantom), tmp_path / "run")
    assert not (tmp_path / "run").exists()
