"""How long networks of the same FLOPs take if their widths are multiples and if not, without any training.

    python benchmarks/width_flops.py sunnybrook2d hippocampus3d

The unpruned network of each recipe is made smaller until a share of its FLOPs is left, every layer by the same share as
in `sauron-train rival`: to any widths, and to multiples of 8 and 16. Times are relative to the unpruned network.
"""

from __future__ import annotations

import argparse

import torch
from timing import median_seconds

from sauron_train import recipes
from sauron_train.analysis.cost import network_cost
from sauron_train.config import parse
from sauron_train.keys import with_overrides
from sauron_train.models.unet import UNet, UNetSpec
from sauron_train.pruning.rivals import uniform_widths

SHARES = (0.7, 0.5, 0.3, 0.15)
MULTIPLES = (1, 8, 16)
CLASSES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="changes of all recipes")
    parser.add_argument("--batch", type=int, default=2, help="patches at once")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    print("| recipe | width_multiple | FLOPs left | time left | time / FLOPs |\n|---|---|---|---|---|")
    for recipe in arguments.recipes:
        print("\n".join(rows(recipe, arguments.changes, arguments.batch, arguments.rounds)), flush=True)


def rows(recipe: str, changes: list[str], batch: int, rounds: int) -> list[str]:
    config = parse(with_overrides(recipes.load(recipe), changes))
    network, patch = config.network, config.data.patch
    whole = UNetSpec.unpruned(network, 1, CLASSES)
    flops = float(network_cost(network, 1, CLASSES, patch, whole.filters).flops)
    specs = [whole]
    for share in SHARES:
        for multiple in MULTIPLES:
            widths = uniform_widths(
                whole.filters,
                lambda many: network_cost(network, 1, CLASSES, patch, many).flops,
                share * flops,
                multiple=multiple,
            )
            specs.append(whole.with_filters(widths))
    seconds = median_seconds(dict(enumerate(map(UNet, specs))), torch.randn(batch, 1, *patch), rounds)
    lines = []
    for place, spec in enumerate(specs[1:], start=1):
        left = float(network_cost(network, 1, CLASSES, patch, spec.filters).flops) / flops
        time = seconds[place] / seconds[0]
        multiple = MULTIPLES[(place - 1) % len(MULTIPLES)]
        lines.append(f"| {recipe} | {multiple} | {left:.2f} | {time:.2f} | {time / left:.2f} |")
    return lines


if __name__ == "__main__":
    main()
