"""A network comes back from one file, and nothing in a checkpoint can run code."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from sauron_train import checkpoint
from sauron_train.config import NetworkConfig
from sauron_train.errors import RunError
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.pruning.policy import History, LayerState
from sauron_train.pruning.sauron import Sauron
from sauron_train.pruning.surgery import cut_network
from sauron_train.runlog.files import resume_file


def pruned(dim: int, norm: str) -> tuple[UNet, Sauron]:
    config = NetworkConfig.model_validate({"dim": dim, "levels": 3, "init_filters": 4, "norm": norm})
    model = UNet(UNetSpec.unpruned(config, 1, 2)).eval()
    method = Sauron(model, torch.zeros(1, 1, *(8,) * dim), layer_name=UNet.layer_name)
    cut = method.graph.resolve({"enc_conv_2": [0, 2], "dec_trans_1": [3], "dec_conv_4": [1]})
    method.graph = cut_network(model, method.graph, cut)
    return model, method


def info(model: UNet, method: Sauron) -> checkpoint.CheckpointInfo:
    return checkpoint.CheckpointInfo(
        epoch=4,
        architecture=model.spec.with_filters(method.layers),
        filters={layer: method.graph.filters(layer) for layer in method.layers},
        labels={"background": 0, "a": 1},
        scores={"val_dice": 0.9},
    )


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("dim", [2, 3])
def test_a_cut_network_comes_back_the_same(tmp_path: Path, dim: int, norm: str) -> None:
    model, method = pruned(dim, norm)
    path = tmp_path / "epoch_0004.safetensors"
    checkpoint.save_checkpoint(path, model, info(model, method))
    again, described = checkpoint.load_model(path)
    assert described == info(model, method)
    assert described.filters["enc_conv_2"] == (1, 3)
    x = torch.randn(1, 1, *(16,) * dim)
    for ours, expected in zip(again(x), model(x), strict=True):
        assert ours.equal(expected)


def test_damage_is_said_in_a_sentence(tmp_path: Path) -> None:
    model, method = pruned(2, "instance")
    path = tmp_path / "x.safetensors"
    with pytest.raises(RunError, match="is not there"):
        checkpoint.load_model(path)
    checkpoint.save_checkpoint(path, model, info(model, method))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="not a readable Sauron checkpoint"):
        checkpoint.load_model(path)
    path.write_bytes(whole.replace(b'\\"levels\\": 3', b'\\"levels\\": 2'))
    with pytest.raises(RunError, match=r"not fit|not a readable"):
        checkpoint.load_model(path)
    path.write_bytes(whole.replace(b'"format_version":"1"', b'"format_version":"9"'))
    with pytest.raises(RunError, match="newer Sauron"):
        checkpoint.load_model(path)


def test_the_method_goes_on_from_its_state(tmp_path: Path) -> None:
    model, method = pruned(2, "instance")
    method.states["enc_conv_1"] = LayerState(step=3, patience=2, removed=1)
    (tmp_path / "checkpoints").mkdir()
    checkpoint.save_state(tmp_path, 3, {"sauron": method.state_dict()})
    other = Sauron(model, torch.zeros(1, 1, 8, 8), {"seed": 99}, UNet.layer_name)
    other.load_state_dict(checkpoint.load_state(tmp_path, 3)["sauron"])
    assert other.states == method.states
    assert other.graph.filters("enc_conv_2") == (1, 3)
    batch = [torch.randn(2, 1, 8, 8)]
    ours, theirs = (each.decide(each.measure(batch), History((), ())).layers for each in (other, method))
    assert ours == theirs, "π is drawn from the saved generator"


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code ran')",))


def test_a_resume_state_cannot_run_code(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    torch.save({"optimizer": Evil()}, tmp_path / resume_file(3))
    with pytest.raises(RunError, match="cannot be read"):
        checkpoint.load_state(tmp_path, 3)
    (tmp_path / resume_file(3)).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(RunError, match="cannot be read"):
        checkpoint.load_state(tmp_path, 3)
    with pytest.raises(RunError, match="cannot go on"):
        checkpoint.load_state(tmp_path / "nowhere", 3)
