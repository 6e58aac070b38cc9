"""Loss and scores of a network on whole cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from sauron_train.experiment import ValidationCase
from sauron_train.inference import segment
from sauron_train.losses import segmentation_loss
from sauron_train.metrics import mean_over_classes, mean_scores, score_case, to_labels


@dataclass(frozen=True)
class Validation:
    """Mean loss over the validation cases, and mean scores per class; HD95 is empty where it was not asked for."""

    loss: float
    dice: Mapping[str, float]
    hd95: Mapping[str, float]

    @property
    def mean_dice(self) -> float:
        """Mean over the classes."""
        return mean_over_classes(self.dice)


@torch.no_grad()
def validate(
    model: nn.Module,
    cases: Sequence[ValidationCase],
    labels: Mapping[str, int],
    patch: Sequence[int],
    device: torch.device,
    hd95: bool = False,
    on_case: Callable[[int, int, str], None] | None = None,
) -> Validation:
    """Loss and scores on whole cases, on the grid that the network sees.

    Args:
        model: the network, on the device; put into eval mode.
        cases: what it is scored on.
        labels: class name to number.
        patch: sides of the patches that it is run on.
        device: where images are sent.
        hd95: take HD95 too, which costs far more than Dice.
        on_case: told how many of how many are done, and which case is next.
    """
    model.eval()
    losses, scores = [], []
    for done, case in enumerate(cases):
        if on_case is not None:
            on_case(done, len(cases), case.name)
        images, expected = case.images.to(device), case.labels.to(device)
        logits = segment(model, images, patch)
        losses.append(float(segmentation_loss(logits, expected.long())))
        predicted, reference = case.as_volume(to_labels(logits)), case.as_volume(expected)
        scores.append(score_case(case.name, predicted, reference, labels, case.spacing if hd95 else None))
    return Validation(
        sum(losses) / len(losses), mean_scores([s.dice for s in scores]), mean_scores([s.hd95 for s in scores])
    )
