"""Starts the processes of a training on one machine, as torchrun does, for `hardware.devices`.

The command is run once in each of them; what they have to say is said as if there were only one.
"""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Callable

from sauron_train import ranks
from sauron_train.config import Config
from sauron_train.errors import SauronError


def in_processes(config: Callable[[], Config]) -> None:
    """Run this command in as many processes as a configuration says instead of in this one, and leave with what comes.

    Nothing is done where one is enough, where torchrun has started the processes already, or where the configuration
    cannot be had, which the command itself will say.
    """
    if ranks.started_by_torchrun():
        return
    try:
        count = config().hardware.devices
    except SauronError:
        return
    if count > 1:
        sys.exit(_launched(count))


def _launched(count: int) -> int:
    """What the command leaves with."""
    # The processes say themselves why they end; what the launcher has to add is about itself.
    logging.disable()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from torch.distributed.elastic.multiprocessing import SignalException  # noqa: PLC0415
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch  # noqa: PLC0415

    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(settings, sys.executable)("-m", "sauron_train", *sys.argv[1:])
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        return first.exitcode if first.exitcode > 0 else 1
    except SignalException as ended:
        return 128 + int(ended.sigval)
    return 0
