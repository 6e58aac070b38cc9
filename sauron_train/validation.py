"""Loss and scores of a network on whole cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from sauron_train.experiment import ValidationCase
from sauron_train.inference import segment
from sauron_train.losses import segmentation_loss
from sauron_train.metrics import CaseScores, mean_over_classes, mean_scores, score_case, to_labels


@dataclass(frozen=True)
class CaseResult:
    """Loss and scores of one case."""

    loss: float
    scores: CaseScores


@dataclass(frozen=True)
class Validation:
    """Mean loss over the validation cases, and mean scores per class; HD95 is empty where it was not asked for."""

    loss: float
    dice: Mapping[str, float]
    hd95: Mapping[str, float]

    @classmethod
    def of(cls, results: Sequence[CaseResult]) -> Validation:
        """The means over cases."""
        dice, hd95 = ([getattr(result.scores, name) for result in results] for name in ("dice", "hd95"))
        return cls(sum(result.loss for result in results) / len(results), mean_scores(dice), mean_scores(hd95))

    @property
    def mean_dice(self) -> float:
        """Mean over the classes."""
        return mean_over_classes(self.dice)


def validate(
    model: nn.Module,
    cases: Sequence[ValidationCase],
    labels: Mapping[str, int],
    patch: Sequence[int],
    device: torch.device,
    hd95: bool = False,
    on_case: Callable[[int, int, str], None] | None = None,
) -> Validation:
    """Mean loss and scores on whole cases, on the grid that the network sees; see `score_cases`."""
    return Validation.of(score_cases(model, cases, labels, patch, device, hd95, on_case))


@torch.no_grad()
def score_cases(
    model: nn.Module,
    cases: Sequence[ValidationCase],
    labels: Mapping[str, int],
    patch: Sequence[int],
    device: torch.device,
    hd95: bool = False,
    on_case: Callable[[int, int, str], None] | None = None,
) -> list[CaseResult]:
    """Loss and scores of each of some cases, on the grid that the network sees.

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
    results = []
    for done, case in enumerate(cases):
        if on_case is not None:
            on_case(done, len(cases), case.name)
        images, expected = case.images.to(device), case.labels.to(device)
        logits = segment(model, images, patch)
        loss = float(segmentation_loss(logits, expected.long()))
        predicted, reference = case.as_volume(to_labels(logits)), case.as_volume(expected)
        scores = score_case(case.name, predicted, reference, labels, case.spacing if hd95 else None)
        results.append(CaseResult(loss, scores))
    return results
