from __future__ import annotations

import numpy as np

from sauron_train.postprocess import largest_components


def test_only_the_largest_component_of_each_chosen_class_stays() -> None:
    labels = np.zeros((12, 12, 6), dtype=np.uint8)
    labels[1:4, 1:4, 1:4] = 1
    labels[8:10, 8:10, 1:3] = 1
    labels[4, 4, 4] = 1  # touches the first block by a corner
    labels[8:11, 1:3, 1:3] = 2
    labels[0, 11, 5] = 2
    before = labels.copy()
    found = largest_components(labels, (1, 2, 3))
    assert (labels == before).all()
    assert (found == 1).sum() == 28
    assert found[4, 4, 4] == 1
    assert (found == 2).sum() == 12
    assert not found[8:10, 8:10].any()
    assert (largest_components(labels, (2,)) == 1).sum() == (labels == 1).sum()
    assert not largest_components(np.zeros((3, 3, 3), dtype=np.uint8), (1,)).any()


def test_a_class_that_surrounds_another_is_not_cut_by_it() -> None:
    labels = np.zeros((7, 7, 7), dtype=np.uint8)
    labels[1:6, 1:6, 1:6] = 1
    labels[2:5, 2:5, 2:5] = 2
    labels[3, 3, 3] = 1
    found = largest_components(labels, (1,))
    assert found[3, 3, 3] == 0
    assert (found == 1).sum() == 125 - 27
    assert (found == 2).sum() == 26
