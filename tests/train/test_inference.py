"""Overlapping patches and flips."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sauron_train.inference import class_probabilities, segment

CPU = torch.device("cpu")


class Small(nn.Module):
    """Two classes from a convolution that sees left from right; like the U-Net it gives a list of outputs."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer: nn.Module = nn.Conv2d(1, 3, 3, padding=1) if dim == 2 else nn.Conv3d(1, 3, 3, padding=1)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.layer(images)]


@pytest.mark.parametrize("dim", [2, 3])
def test_probabilities_of_one_patch_are_the_softmax(dim: int) -> None:
    model, images = Small(dim), torch.rand(2, 1, *[8] * dim)
    found = class_probabilities(model, images, [8] * dim, CPU, 0.5, flips=False)
    torch.testing.assert_close(found, model(images)[0].softmax(dim=1))


@pytest.mark.parametrize("dim", [2, 3])
def test_flips_take_every_combination_of_axes_once(dim: int) -> None:
    model, images = Small(dim), torch.rand(1, 1, *[8] * dim)
    found = class_probabilities(model, images, [8] * dim, CPU, 0.5, flips=True)
    views = [[]]
    for axis in range(2, 2 + dim):
        views += [[*view, axis] for view in views]
    assert len(views) == 2**dim
    expected = torch.stack([model(images.flip(view))[0].softmax(dim=1).flip(view) for view in views]).mean(dim=0)
    torch.testing.assert_close(found, expected)
    for axis in range(2, 2 + dim):
        mirrored = class_probabilities(model, images.flip(axis), [8] * dim, CPU, 0.5, flips=True)
        torch.testing.assert_close(mirrored.flip(axis), found)


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
@pytest.mark.parametrize("shape", [(8, 8), (21, 13), (5, 30)])
def test_patches_cover_images_of_any_size(overlap: float, shape: tuple[int, int]) -> None:
    class Pointwise(nn.Module):
        def forward(self, images: Tensor) -> list[Tensor]:
            return [torch.cat([images, -images, images**2], dim=1)]

    images = torch.randn(2, 1, *shape)
    expected = Pointwise()(images)[0].softmax(dim=1)
    for flips in (False, True):
        found = class_probabilities(Pointwise(), images, (8, 8), CPU, overlap, flips)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(segment(Pointwise(), images, (8, 8), overlap).softmax(dim=1), expected)


def test_what_does_not_fit_on_the_device_is_put_together_on_the_cpu() -> None:
    class Tight(Small):
        asked = 0

        def forward(self, images: Tensor) -> list[Tensor]:
            self.asked += 1
            if self.asked == 2:
                raise torch.OutOfMemoryError("no more")
            return super().forward(images)

    images = torch.rand(1, 1, 20, 20)
    expected = class_probabilities(Small(2), images, (8, 8), CPU, 0.5, flips=False)
    tight = Tight(2)
    torch.testing.assert_close(class_probabilities(tight, images, (8, 8), CPU, 0.5, flips=False), expected)
    assert tight.asked > 2
