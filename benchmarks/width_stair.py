"""How long a U-Net takes by the width of its layers: the stair that `prune.width_multiple` is for (docs/method.md).

    python benchmarks/width_stair.py --dim 3 --side 32

All layers have the same width; what is printed is the time and the FLOPs relative to 32 filters.
"""

from __future__ import annotations

import argparse

import torch
from timing import median_seconds

from sauron_train.complexity import complexity
from sauron_train.config import NetworkConfig
from sauron_train.machine import device_name
from sauron_train.models.unet import UNet, UNetSpec

WIDTHS = (1, 2, 4, 6, 8, 9, 12, 16, 17, 24, 25, 32, 33, 40, 41, 48, 64)
WHOLE = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=2, choices=(2, 3))
    parser.add_argument("--side", type=int, default=96, help="of the images, in voxels")
    parser.add_argument("--batch", type=int, default=2, help="images at once")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    spec = UNetSpec.unpruned(NetworkConfig(dim=arguments.dim, levels=3), 1, 2)
    networks = {width: UNet(spec.with_filters(dict.fromkeys(spec.filters, width))) for width in WIDTHS}
    sides = (arguments.side,) * arguments.dim
    seconds = median_seconds(networks, torch.randn(arguments.batch, 1, *sides), arguments.rounds)
    flops = {width: complexity(model, 1, sides).flops for width, model in networks.items()}
    print(f"{device_name(torch.device('cpu'))}, {arguments.batch} x {' x '.join(map(str, sides))}")
    print("| filters | time | FLOPs |\n|---|---|---|")
    for width in WIDTHS:
        print(f"| {width} | {seconds[width] / seconds[WHOLE]:.2f} | {flops[width] / flops[WHOLE]:.3f} |")


if __name__ == "__main__":
    main()
