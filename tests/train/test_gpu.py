"""What a GPU changes: the same distances, whole trainings in each precision, going on, segmenting, timing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from commanding import sauron
from resuming import EPOCHS, TINY

from sauron_train import recipes
from sauron_train.config import Config, NetworkConfig, parse
from sauron_train.data.phantom import make_phantom
from sauron_train.experiment import Experiment
from sauron_train.keys import with_overrides
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.progress import Observer
from sauron_train.pruning.distances import delta_opt, delta_prune
from sauron_train.pruning.sauron import Sauron
from sauron_train.resume import resume
from sauron_train.runlog import EpochRow, Run
from sauron_train.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")


class StopAfter(Observer):
    """Presses Ctrl-C when an epoch is over."""

    def __init__(self, epoch: int) -> None:
        self.at = epoch

    def epoch(self, row: EpochRow) -> None:
        if row.epoch == self.at:
            raise KeyboardInterrupt


def on_gpu(*changes: str) -> Config:
    """Enough steps in an epoch for a graph."""
    steps = "data.steps_per_epoch=10"
    return parse(with_overrides(recipes.load("phantom2d"), [*TINY, "hardware.accelerator=gpu", steps, *changes]))


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_phantom(tmp_path_factory.mktemp("gpu") / "phantom", dim=2, cases=5, seed=1)


@pytest.fixture(scope="module")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("gpu_run") / "run"
    Trainer(Experiment.prepare(on_gpu(), phantom), run).run()
    return run


@pytest.mark.parametrize("normalization", ["maps", "none", "distances"])
@pytest.mark.parametrize("shape", [(3, 7, 33, 20), (2, 5, 9, 12, 8)], ids=["2D", "3D"])
@pytest.mark.parametrize("images", [None, [1]], ids=["all images", "one image"])
def test_distances_and_their_gradients_are_those_of_a_cpu(
    normalization: str, shape: tuple[int, ...], images: list[int] | None
) -> None:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0)).relu()
    found = {}
    for device in ("cpu", "cuda"):
        own = maps.to(device).detach().requires_grad_()
        delta = delta_opt(own, normalization, images=images)  # type: ignore[arg-type]
        delta.square().sum().backward()
        assert own.grad is not None
        found[device] = [value.detach().cpu() for value in (delta, own.grad, delta_prune(own.detach(), [0, 3]))]
    for cpu, gpu in zip(found["cpu"], found["cuda"], strict=True):
        torch.testing.assert_close(gpu, cpu, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dim", [2, 3])
def test_every_layer_of_a_network_of_full_size_can_be_cut(dim: int) -> None:
    config = NetworkConfig(dim=dim, levels=5, init_filters=32)
    network = UNet(UNetSpec.unpruned(config, 1, 2), torch.Generator().manual_seed(0)).cuda()
    size = (256, 256) if dim == 2 else (64, 64, 64)
    assert len(Sauron(network, torch.randn(1, 1, *size, device="cuda")).layers) == 22


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_network_is_trained_and_cut_in_every_precision(phantom: Path, tmp_path: Path, precision: str) -> None:
    settings = on_gpu(f"hardware.precision={precision}", "data.workers=2")
    Trainer(Experiment.prepare(settings, phantom), tmp_path / "run").run()
    run = Run(tmp_path / "run")
    epochs = run.epochs()
    assert run.info.status == "finished"
    assert run.info.device == torch.cuda.get_device_name()
    assert np.isfinite(epochs[["train_loss", "train_delta_opt", "val_loss"]].to_numpy(float)).all()
    assert epochs.filters_removed.sum() > 0
    assert epochs.flops.iloc[-1] < epochs.flops.iloc[0]
    assert (epochs.memory_mb > 0).all()


@pytest.mark.parametrize(
    ("changes", "near"),
    [([], 2e-3), (["loss.samples=1"], 2e-3), (["network.norm=batch"], 2e-3), (["hardware.precision=bf16-mixed"], 5e-2)],
    ids=["all images", "one image", "batch norm", "bf16"],
)
def test_replayed_steps_are_those_that_are_launched_one_by_one(
    phantom: Path, tmp_path: Path, changes: list[str], near: float
) -> None:
    # Eleven batches, the last of another size.
    settings = ["data.steps_per_epoch=null", "data.batch_size=3", "epochs=3", "prune.last_epoch=3", *changes]
    found = {}
    for graph in ("true", "false"):
        trainer = Trainer(
            Experiment.prepare(on_gpu(*settings, f"hardware.cuda_graph={graph}"), phantom), tmp_path / graph
        )
        assert trainer._replays == (graph == "true")
        trainer.run()
        assert trainer._replays == (graph == "true"), "no graph could be made"
        found[graph] = Run(tmp_path / graph).epochs()
    one, other = found.values()
    assert one.filters_removed.sum() > 0, "epochs before and after a cut are compared"
    for column in ("train_loss", "train_delta_opt", "val_loss"):
        np.testing.assert_allclose(one[column], other[column], rtol=near)


def test_a_replayed_step_without_a_number_is_left_out(phantom: Path, tmp_path: Path) -> None:
    class Spoilt(Trainer):
        steps = 0

        def backward(self, images: Any, labels: Any, weight: float = 1.0) -> tuple[float, float, float]:
            self.steps += 1
            return super().backward(images * (math.inf if self.steps == 7 else 1), labels, weight)

    settings = on_gpu("network.norm=batch", "optimizer.skip_steps=1", "epochs=2", "prune.last_epoch=2")
    trainer = Spoilt(Experiment.prepare(settings, phantom), tmp_path / "run")
    trainer.run()
    assert trainer._replays
    assert trainer.guard.skipped == 1
    assert all(buffer.isfinite().all() for buffer in trainer.network.buffers())
    assert np.isfinite(Run(tmp_path / "run").epochs().val_loss).all()


def test_a_graph_that_cannot_be_made_is_told_of_and_done_without(phantom: Path, tmp_path: Path) -> None:
    class Reading(Trainer):
        def _losses(self, *arguments: Any) -> Any:
            losses = super()._losses(*arguments)
            losses.sum().item()  # what a graph must not do
            return losses

    class Listening(Observer):
        def remark(self, sentence: str) -> None:
            said.append(sentence)

    said: list[str] = []
    settings = on_gpu("data.steps_per_epoch=9", "epochs=2", "prune.last_epoch=2")
    Reading(Experiment.prepare(settings, phantom), tmp_path / "run", Listening()).run()
    (sentence,) = said
    assert sentence.startswith("steps are launched kernel by kernel: no CUDA graph of one (")
    assert "previous error" not in sentence, "the cause is told, not that something failed before"
    assert Run(tmp_path / "run").info.status == "finished"


def test_an_interrupted_training_ends_as_one_that_was_not(phantom: Path, trained: Path, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        Trainer(Experiment.prepare(on_gpu(), phantom), stopped, StopAfter(EPOCHS // 2)).run()
    resume(Run(stopped))
    whole, again = Run(trained).epochs(), Run(stopped).epochs()
    assert len(again) == EPOCHS
    # Kernels of a GPU add in any order, so the ends are near each other, not equal to the last bit.
    np.testing.assert_allclose(again.train_loss, whole.train_loss, rtol=0.05)


def test_images_are_segmented_and_networks_timed(phantom: Path, trained: Path, tmp_path: Path) -> None:
    source = phantom / "imagesTr"
    for device in ("cpu", "cuda"):
        done = sauron("predict", trained, source, "--out", tmp_path / device, "--device", device)
        assert done.returncode == 0, done.stderr
    for path in sorted((tmp_path / "cpu").glob("*.nii.gz")):
        cpu, gpu = (np.asarray(nib.load(tmp_path / device / path.name).dataobj) for device in ("cpu", "cuda"))
        assert (cpu == gpu).mean() > 0.999
    done = sauron("benchmark", trained, "--device", "cuda")
    assert done.returncode == 0, done.stderr
    assert torch.cuda.get_device_name() in done.stdout
