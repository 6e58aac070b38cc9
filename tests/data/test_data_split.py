from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sauron_train.config_data import DataConfig
from sauron_train.data.split import split_cases
from sauron_train.data.types import Case, Dataset
from sauron_train.errors import ConfigError, DataError

GROUP = "^(.*)_E[DS]$"


def dataset(*names: str) -> Dataset:
    cases = tuple(Case(name, (Path(name),), None) for name in names)
    return Dataset(Path(), "d", ("MRI",), {"background": 0, "a": 1}, cases, "")


def data(**values: object) -> DataConfig:
    return DataConfig.model_validate({"patch": (16, 16), **values})


PATIENTS = dataset(*(f"p{i:02d}_{phase}" for i in range(10) for phase in ("ED", "ES")))


@pytest.mark.parametrize("seed", range(5))
def test_a_patient_is_on_one_side_only(seed: int) -> None:
    split = split_cases(PATIENTS, data(group_by=GROUP), seed)
    train, validation = ({case.name[:3] for case in side} for side in (split.train, split.validation))
    assert not train & validation
    assert len(validation) == 2
    assert len(split.train) + len(split.validation) == 20


def test_the_seed_decides_and_not_the_order_of_the_files() -> None:
    backwards = replace(PATIENTS, cases=PATIENTS.cases[::-1])
    splits = [split_cases(PATIENTS, data(group_by=GROUP), seed) for seed in range(6)]
    assert [split_cases(backwards, data(group_by=GROUP), seed) for seed in range(6)] == splits
    assert len({split.validation for split in splits}) > 1


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_no_side_is_empty(share: float) -> None:
    split = split_cases(dataset("a", "b", "c"), data(validation=share), 0)
    assert split.train
    assert split.validation


def test_one_patient_cannot_be_split() -> None:
    with pytest.raises(DataError, match="one patient, 'p'"):
        split_cases(dataset("p_ED", "p_ES"), data(group_by=GROUP), 0)
    with pytest.raises(DataError, match="holds one case"):
        split_cases(dataset("p"), data(), 0)


def test_a_case_without_a_patient_is_named() -> None:
    with pytest.raises(DataError, match="case q does not match"):
        split_cases(dataset("p_ED", "q"), data(group_by=GROUP), 0)


@pytest.mark.parametrize(
    ("expression", "sentence"), [("(", "not a regular expression"), ("p", "has 0 groups"), ("(p)(q)", "has 2")]
)
def test_a_bad_expression_is_the_configurations_fault(expression: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        split_cases(PATIENTS, data(group_by=expression), 0)


@given(
    patients=st.integers(2, 30),
    folds=st.integers(2, 10),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=40, deadline=None)
def test_over_the_folds_every_case_validates_exactly_once(patients: int, folds: int, seed: int) -> None:
    cases = dataset(*(f"p{i:02d}_{phase}" for i in range(patients) for phase in ("ED", "ES")))
    if folds > patients:
        with pytest.raises(DataError, match=f"holds {patients} patients, which cannot be dealt into {folds} folds"):
            split_cases(cases, data(group_by=GROUP, folds=folds, fold=0), seed)
        return
    splits = [split_cases(cases, data(group_by=GROUP, folds=folds, fold=fold), seed) for fold in range(folds)]
    assert sorted(case.name for split in splits for case in split.validation) == sorted(c.name for c in cases.cases)
    for split in splits:
        train, validation = ({case.name[:3] for case in side} for side in (split.train, split.validation))
        assert train
        assert not train & validation
        assert len(split.train) + len(split.validation) == 2 * patients
    sizes = {len(split.validation) for split in splits}
    assert max(sizes) - min(sizes) <= 2, "folds are of equal size, give or take a patient"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"folds": 5}, "give both"),
        ({"fold": 0}, "give both"),
        ({"folds": 3, "fold": 3}, "data.fold is 3, but 3 folds are counted from 0 to 2"),
        ({"folds": 1, "fold": 0}, "greater than or equal to 2"),
    ],
)
def test_a_fold_is_one_of_several(keys: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        data(**keys)
