from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

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
