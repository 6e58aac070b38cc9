"""What torchrun starts for the tests of several processes: commands of `sauron-train`, one after the other.

The only argument is JSON: a list of tables with `words`, the command, and `spoil`, what goes wrong in it if anything
does: `[epoch, what]`, in the second process. What fails is followed by the next command all the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from typing import Any

from torch import Tensor

from sauron_train import ranks
from sauron_train.cli import main
from sauron_train.errors import DataError
from sauron_train.pruning.sauron import Sauron
from sauron_train.trainer import Trainer

apply, step, train, init = Sauron.apply, Trainer.backward, Trainer.train, Trainer.__init__
trainers: list[Trainer] = []
spoil: list[Any] = []
epochs: list[int] = []
codes: list[Any] = []


def digest(network: Any) -> str:
    found = hashlib.sha256()
    for tensor in network.state_dict().values():
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()


def begin(self: Trainer, *arguments: Any) -> None:
    init(self, *arguments)
    trainers.append(self)


def applied(self: Sauron, cut: Any, optimizer: Any) -> None:
    """A cut, after which all processes must have the same weights before anybody sends them."""
    apply(self, cut, optimizer)
    trainer = trainers[-1]
    assert len(set(trainer.processes.gathered(digest(trainer.network)))) == 1


def training(self: Trainer, epoch: int) -> Any:
    epochs.append(epoch)
    return train(self, epoch)


def spoilt(self: Trainer, images: Tensor, labels: Tensor, weight: float = 1.0) -> tuple[float, float, float]:
    if ranks.rank() == 1 and spoil and spoil[0] == epochs[-1]:
        if spoil[1] == "error":
            raise DataError("the disk of this machine is not there any more; mount it again")
        return (math.nan, *step(self, images, labels, weight)[1:])
    return step(self, images, labels, weight)


Sauron.apply, Trainer.backward, Trainer.train, Trainer.__init__ = applied, spoilt, training, begin  # type: ignore[method-assign]

for command in json.loads(sys.argv[1]):
    spoil[:] = command.get("spoil") or []
    sys.argv = ["sauron-train", *command["words"]]
    try:
        main()
    except SystemExit as leaving:
        codes.append(leaving.code or 0)
sys.exit(codes[-1])
