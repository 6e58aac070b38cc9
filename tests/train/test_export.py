"""Networks as files for other programs: they compute the same, say how they are used, and are whole or not there."""

from __future__ import annotations

import copy
import io
import json
import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from commanding import sauron

from sauron_train.checkpoint import load_model
from sauron_train.config import NetworkConfig
from sauron_train.deploy import export as exporting
from sauron_train.deploy import libraries
from sauron_train.deploy.export import TOLERANCE, export_run
from sauron_train.deploy.formats import FORMATS, JSON_FILE, FormatName
from sauron_train.deploy.head import main_head
from sauron_train.deploy.portable import KEY, Portable, portable
from sauron_train.errors import ConfigError, RunError
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.runlog import Run

DOCS = Path(__file__).resolve().parents[2] / "docs"


def needed(form: FormatName) -> None:
    for name in FORMATS[form].needs:
        pytest.importorskip(name, reason=f"{name} of the extra `export` is not installed")


def network(dim: int, norm: str, seed: int = 0) -> UNet:
    """Three levels, cut to widths that no hand would choose."""
    spec = UNetSpec.unpruned(NetworkConfig(dim=dim, levels=3, init_filters=4, norm=norm), 2, 3)
    widths = spec.filters | {"enc_conv_1": 3, "enc_conv_4": 7, "enc_conv_5": 1, "dec_trans_1": 5, "dec_conv_3": 2}
    made = UNet(spec.with_filters(widths), torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed + 1)
    for name, tensor in made.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            tensor.normal_(generator=generator)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
    return made.eval()


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("form", ["onnx", "openvino", "torchscript"])
def test_a_file_computes_what_the_network_does_at_any_size(form: FormatName, dim: int, norm: str) -> None:
    needed(form)
    model = network(dim, norm)
    read = FORMATS[form].read(FORMATS[form].write(portable(model)))
    generator = torch.Generator().manual_seed(2)
    for batch, sides in ((1, (8, 12, 16)), (3, (20, 8, 12))):
        images = torch.randn(batch, 2, *sides[:dim], generator=generator)
        images[..., 6:] = 0.3
        with torch.no_grad():
            torch.testing.assert_close(read(images)[-1], model(images)[-1], atol=TOLERANCE, rtol=0)


def test_a_program_of_torch_export_has_open_sizes() -> None:
    spec = UNetSpec.unpruned(NetworkConfig(dim=2, levels=2, init_filters=3, norm="instance"), 2, 3)
    model = UNet(spec, torch.Generator().manual_seed(0)).eval()
    content = FORMATS["torch"].write(portable(model, '{"some": "text"}'))
    read = FORMATS["torch"].read(content)
    images = torch.randn(5, 2, 24, 12, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(read(images)[-1], model(images)[-1])
    found = {JSON_FILE: ""}
    torch.export.load(io.BytesIO(content[".pt2"]), extra_files=found)
    assert found[JSON_FILE] == '{"some": "text"}'


def test_only_what_full_resolution_needs_is_left() -> None:
    model = network(3, "batch")
    head = main_head(model)
    assert set(dict(model.named_children())) - set(dict(head.named_children())) == {"head_1"} - {
        f"head_{len(model.spec.heads)}"
    }
    shared = {p.data_ptr() for p in model.parameters()}
    assert all(p.data_ptr() in shared for p in head.parameters())


def test_a_part_that_onnx_is_not_told_of_is_named() -> None:
    needed("onnx")
    odd = torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.GELU()))
    with pytest.raises(ConfigError, match=r"cannot be written as ONNX yet \(GELU\)"):
        Portable(odd, 1, 2, 1, "").onnx()


def text_in(form: FormatName, path: Path) -> str:
    """The description as a program finds it that knows nothing of Sauron."""
    if form == "onnx":
        import onnx  # noqa: PLC0415

        onnx.checker.check_model(onnx.load(path), full_check=True)
        return next(item.value for item in onnx.load(path).metadata_props if item.key == KEY)
    if form == "openvino":
        import openvino  # noqa: PLC0415

        return str(openvino.Core().read_model(path).get_rt_info(KEY).value)
    found = {JSON_FILE: ""}
    torch.jit.load(path, _extra_files=found)
    return bytes(found[JSON_FILE]).decode() if isinstance(found[JSON_FILE], bytes) else found[JSON_FILE]


@pytest.mark.parametrize("form", ["onnx", "openvino", "torchscript"])
def test_a_file_says_how_it_is_used(form: FormatName, cut_run: Path, tmp_path: Path) -> None:
    needed(form)
    out = tmp_path / f"tiny{FORMATS[form].endings[0]}"
    done = sauron("export", cut_run, "--format", form, "--out", out)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"largest difference to PyTorch \d\.\de[-+]\d\d on random input of 1x1x8x12 and 3x1x12x8", done.stdout
    )
    assert "multiples of 4" in done.stdout
    assert {path.suffix for path in tmp_path.iterdir()} == set(FORMATS[form].endings)
    about, run = json.loads(text_in(form, out)), Run(cut_run)
    model, checkpoint = load_model(run.checkpoint()[1])
    assert about["input"]["patch"] == [32, 32]
    assert (about["input"]["name"], about["output"]["values"]) == ("image", "logits")
    assert about["output"]["classes"] == run.info.labels
    assert about["network"]["filters"] == model.spec.filters
    assert about["network"]["filters"]["enc_conv_2"] == about["network"]["filters_unpruned"]["enc_conv_2"] - 3
    row = run.epochs().iloc[-1]
    assert about["network"]["flops_share"] == row["flops"] / run.info.flops < 1
    assert about["scores"]["val_dice"] == checkpoint.scores["val_dice"]
    assert [step["step"] for step in about["preprocessing"]] == ["orient", "resample", "slices", "z_normalise", "pad"]
    assert about["preprocessing"][0]["axes"] == run.info.orientation
    again = sauron("export", cut_run, "--format", form, "--out", out)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_what_cannot_be_written_leaves_nothing(cut_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = sauron("export", cut_run, "--format", "torchscript", "--out", tmp_path / "tiny.onnx")
    assert wrong.returncode == 2
    assert "must end in .pt, but" in wrong.stderr
    (tmp_path / "file").write_text("")
    nowhere = sauron("export", cut_run, "--format", "torchscript", "--out", tmp_path / "file" / "tiny.pt")
    assert nowhere.returncode == 2
    assert "cannot be written" in nowhere.stderr
    none = sauron("export", cut_run, "--format", "torchscript", "--out", tmp_path / "tiny.pt", "--epoch", "9")
    assert none.returncode == 2
    monkeypatch.setitem(sys.modules, "onnx", None)
    missing = sauron("export", cut_run, "--out", tmp_path / "tiny.onnx")
    assert missing.returncode == 2
    assert missing.stderr == "error: this needs onnx, which is not installed; pip install 'sauron-unet[export]'\n"
    assert not libraries.installed("no_such_library_at_all")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_computes_something_else_is_refused(
    cut_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Weights in half precision, which OpenVINO would write if it were not told otherwise.
    real = FORMATS["torchscript"]
    lossy = exporting.FORMATS | {
        "torchscript": type(real)(real.endings, lambda n: real.write(rounded(n)), real.read, real.needs)
    }
    monkeypatch.setattr(exporting, "FORMATS", lossy)
    with pytest.raises(RunError, match="the file would not compute what the network does: logits differ by"):
        export_run(Run(cut_run), "torchscript", tmp_path / "tiny.pt")
    assert not list(tmp_path.iterdir())


def rounded(network: Portable) -> Portable:
    head = copy.deepcopy(network.head)
    for parameter in head.parameters():
        parameter.data = parameter.data.half().float()
    return Portable(head, network.channels, network.dim, network.multiple, network.description)


def test_the_script_of_the_docs_segments_as_predict_does(
    cut_run: Path, heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed("onnx")
    assert sauron("export", cut_run, "--out", tmp_path / "tiny.onnx").returncode == 0
    image = heads / "imagesTr" / "phantom_001_0000.nii.gz"
    assert sauron("predict", cut_run, image, "--out", tmp_path).returncode == 0
    script = re.search(r"```python\n(.+?)```", (DOCS / "export.md").read_text(), re.DOTALL)
    assert script is not None
    imported = set(re.findall(r"^import (\w+)", script[1], re.MULTILINE))
    assert imported == {"json", "sys", "nibabel", "numpy", "onnxruntime"}
    monkeypatch.setattr(sys, "argv", ["script", *map(str, (tmp_path / "tiny.onnx", image, tmp_path / "alone.nii.gz"))])
    exec(compile(script[1], "docs/export.md", "exec"), {})
    alone, here = (np.asarray(nib.load(tmp_path / f"{name}.nii.gz").dataobj) for name in ("alone", "phantom_001"))
    assert len(np.unique(here)) > 1, "the network is trained enough for this test"
    assert (alone == here).mean() > 0.999
