"""What studies are tried on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sauron_train.data.phantom import make_phantom


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six tiny stacks of slices."""
    return make_phantom(tmp_path_factory.mktemp("data") / "phantom", dim=2, cases=6, seed=1, size=(40, 40, 6))


@pytest.fixture
def _same_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums of a convolution hang on the number of threads; processes that are started use as many as this one."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, str(torch.get_num_threads()))
