"""Whether a data set can be trained on, told without training."""

from __future__ import annotations

from collections.abc import Callable

from sauron_train.config import Config
from sauron_train.data.split import split_cases
from sauron_train.data.types import Case, Dataset
from sauron_train.errors import SauronError


def obstacle(dataset: Dataset, config: Config, bare: Callable[[Case], bool]) -> str:
    """Why training would refuse the data set; "" where nothing speaks against it.

    Args:
        dataset: what is left after `data.discard`.
        config: the recipe.
        bare: whether nothing is labelled in a case; asked of no more cases than necessary.
    """
    try:
        split = split_cases(dataset, config.data, config.seed)
    except SauronError as error:
        return str(error)
    for what, cases in (("training", split.train), ("validation", split.validation)):
        if all(bare(case) for case in cases):
            return f"nothing is labelled in any {what} case of {dataset.name}; look at its labels"
    return ""
