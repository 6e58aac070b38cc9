"""Dip, δ_opt and neighbours against naive ways and known values, and what happens where they mean nothing."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog
from scipy.spatial.distance import pdist, squareform

from sauron_train.analysis.clusterability import BINS, clusterability, delta_opt, neighbours, neighbours_within
from sauron_train.analysis.dip import Sample, dip, dip_sample
from sauron_train.analysis.distances import distance_matrix
from sauron_train.analysis.trends import agreement, change, changes, paper_table4, summarise

RNG = np.random.default_rng(0)
# Quality of 63 statistics departments: the example of Hartigan and Hartigan, The Dip Test of Unimodality (1985).
FACULTY = [
    30, 33, 35, 36, 37, 37, 39, 39, 39, 39, 39, 40, 40, 40, 40, 41, 42, 43, 43, 43, 44, 44, 45, 45, 46,
    47, 47, 48, 48, 48, 49, 50, 50, 51, 52, 52, 53, 53, 53, 53, 53, 54, 54, 57, 57, 59, 60, 60, 60, 61,
    61, 61, 61, 62, 62, 62, 62, 63, 66, 70, 72, 72, 72,
]  # fmt: skip


def dip_by_linear_programming(values: np.ndarray) -> float:
    """The least largest distance of the empirical distribution to one that is convex up to a mode and concave after."""
    x = np.sort(values)
    n = len(x)
    best = 1.0
    for mode in range(n):
        # Unknown: F at each value, F just before the mode's value (it may jump there), and the distance itself.
        before, distance, rows, limits = n, n + 1, [], []

        def at_most(coefficients: dict[int, float], limit: float, rows: list = rows, limits: list = limits) -> None:
            row = np.zeros(n + 2)
            for place, coefficient in coefficients.items():
                row[place] += coefficient
            rows.append(row)
            limits.append(limit)

        for i in range(n):
            at_most({i: -1, distance: -1}, -(i + 1) / n)
            at_most({before if i == mode else i: 1, distance: -1}, i / n)
        left, right = [*range(mode), before], [mode, *range(mode + 1, n)]
        for side, sign in ((left, 1), (right, -1)):
            points = [x[mode] if i == before else x[i] for i in side]
            for a, b in pairwise(side):
                at_most({a: 1, b: -1}, 0)
            for i in range(len(side) - 2):
                (a, b, c), (p, q, r) = side[i : i + 3], points[i : i + 3]
                # Slopes grow on the left of the mode and fall on the right.
                at_most({b: sign * (1 / (q - p) + 1 / (r - q)), a: -sign / (q - p), c: -sign / (r - q)}, 0)
        at_most({before: 1, mode: -1}, 0)
        cost = np.zeros(n + 2)
        cost[distance] = 1
        solved = linprog(cost, A_ub=np.array(rows), b_ub=limits, bounds=[(0, 1)] * (n + 2))
        best = min(best, solved.fun)
    return best


@pytest.mark.parametrize("size", [4, 5, 7, 9])
def test_the_dip_is_the_distance_to_the_nearest_unimodal_distribution(size: int) -> None:
    for values in (np.arange(size), *(RNG.random(size) ** 2 for _ in range(4))):
        # The mode may lie between two values too; a jump there is a jump at one of them.
        assert dip(values).statistic == pytest.approx(dip_by_linear_programming(values), abs=1e-6)


def test_known_dips() -> None:
    assert dip(np.arange(100)).statistic == pytest.approx(1 / 200)
    clusters = np.concatenate([RNG.normal(0, 1e-3, 500), RNG.normal(1, 1e-3, 500)])
    assert dip(clusters).statistic == pytest.approx(0.25, abs=0.005)
    assert dip(clusters).p < 0.001
    assert dip(RNG.normal(size=1000)).p > 0.5
    faculty = dip(np.array(FACULTY))
    assert (faculty.n, faculty.statistic) == (63, pytest.approx(0.0595238, abs=1e-7))
    assert faculty.p == pytest.approx(0.0867, abs=1e-3)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "fewer than 4 values"),
        ([0.1, 0.2, 0.4], "fewer than 4 values"),
        ([0.3] * 9, "all values are equal"),
        ([0.0, 0.0, 0.0, 0.5, 0.5, 0.7], "only 3 different values"),
        ([0.1, 0.2, np.nan, 0.4, 0.5], "not a number"),
        ([0.1, 0.2, np.inf, 0.4, 0.5], "not a number"),
        ([0.3 + 1e-9 * i for i in range(40)], "all values are equal"),
        ([0.3 + 1e-16 * i for i in range(20)] + [0.7 - 1e-12 * i for i in range(20)], "only 2 different values"),
    ],
)
def test_no_dip_has_a_reason_and_is_never_called_unimodal(values: list[float], reason: str) -> None:
    found = dip(np.array(values))
    assert found.reason == reason
    assert math.isnan(found.statistic)
    assert math.isnan(found.p)
    assert found.n == len(values)


@pytest.mark.parametrize("sample", ["pairs", "reference", "pca"])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_copies_of_few_maps_have_no_dip_whatever_is_rounded(groups: int, sample: Sample) -> None:
    base = RNG.random((groups, 16, 16))
    copies = (base[np.arange(32) % groups] * RNG.uniform(0.5, 9, (32, 1, 1)) + RNG.normal(size=(32, 1, 1))).astype(
        np.float32
    )
    found = clusterability(distance_matrix(copies)[None], sample)
    few = groups * (groups - 1) // 2 + 1 if sample == "pairs" else groups
    assert found.dip_reason == ("all values are equal" if groups == 1 else f"only {few} different values") or few > 3
    assert math.isnan(found.dip) == math.isnan(found.dip_p) == bool(found.dip_reason)


def test_one_living_map_among_dead_ones_has_no_dip() -> None:
    maps = np.zeros((32, 8, 8))
    maps[5] = RNG.random((8, 8))
    for sample in ("pairs", "reference", "pca"):
        assert clusterability(distance_matrix(maps)[None], sample).dip_reason == "only 2 different values"


def test_many_pairs_are_compared_with_the_last_row_of_the_table() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dip(RNG.random(80_000)).method == "table, last row"
    assert dip(RNG.random(80)).method == "table"


def test_samples() -> None:
    points = RNG.normal(size=(7, 40))
    distances = squareform(pdist(points))
    assert sorted(dip_sample(distances, "pairs")) == pytest.approx(sorted(pdist(points)))
    assert dip_sample(distances, "reference") == pytest.approx(np.linalg.norm(points[1:] - points[0], axis=1))
    centred = points - points.mean(axis=0)
    scores = centred @ np.linalg.svd(centred)[2][0]
    found = dip_sample(distances, "pca")
    assert min(np.abs(found - scores).max(), np.abs(found + scores).max()) < 1e-9
    assert dip_sample(np.zeros((1, 1)), "pairs").size == dip_sample(np.zeros((1, 1)), "reference").size == 0


def layer(count: int, images: int = 3) -> np.ndarray:
    return np.stack([distance_matrix(RNG.random((count, 6, 6)) ** 3) for _ in range(images)])


@pytest.mark.parametrize("count", [1, 2, 3, 5, 30])
def test_measures_against_loops(count: int) -> None:
    distances = layer(count)
    found = clusterability(distances, radius=0.15)
    others = [[j for j in range(count) if j != i] for i in range(count)]
    near = [np.mean([sum(d[i, j] <= 0.15 for j in others[i]) for i in range(count)]) for d in distances]
    assert found.neighbours == pytest.approx(np.mean(near))
    to_first = [d[0, j] for d in distances for j in range(1, count)]
    assert found.delta_opt == pytest.approx(np.mean(to_first) if to_first else 0.0)
    mean = distances.mean(axis=0)
    for i in range(count):
        if others[i]:
            best = min(others[i], key=lambda j, i=i: mean[i, j])
            assert found.nearest[i] == best
            assert found.nearest_distance[i] == pytest.approx(mean[i, best])
        else:
            assert found.nearest[i] == -1
    assert found.dip_n == count * (count - 1) // 2
    tests = [dip(dip_sample(d)) for d in distances]
    assert found.dip == pytest.approx(np.mean([t.statistic for t in tests]), nan_ok=True)
    assert found.dip_p == pytest.approx(np.mean([t.p for t in tests]), nan_ok=True)
    assert bool(found.dip_reason) == (count < 4) == math.isnan(found.dip)


@pytest.mark.parametrize("count", [1, 2, 25])
def test_neighbours_within_any_radius_from_the_histogram(count: int) -> None:
    distances = layer(count)
    found = clusterability(distances)
    assert found.histogram.shape == (BINS,)
    assert found.histogram.sum() == count * (count - 1)
    for radius in (0.005, 0.1, 0.15, 0.3, 0.35, 0.57, 1.0):
        expected = np.mean([neighbours(image, radius) for image in distances])
        assert neighbours_within(found.histogram, np.array(count), radius) == pytest.approx(expected), radius
    least = neighbours_within(found.histogram, np.array(count), 1e-9)
    assert least == neighbours_within(found.histogram, np.array(count), 1 / BINS)
    between = neighbours_within(found.histogram, np.array(count), 0.2125)
    low, high = (neighbours_within(found.histogram, np.array(count), radius) for radius in (0.21, 0.215))
    assert between == pytest.approx((low + high) / 2)


def test_duplicates_and_dead_maps() -> None:
    maps = RNG.random((6, 8, 8))
    maps[1], maps[2], maps[3] = maps[0], 4.0, 7.0
    distances = distance_matrix(maps)[None]
    found = clusterability(distances, radius=0.005)
    assert found.neighbours == pytest.approx(4 / 6), "two equal maps and two constant ones"
    assert clusterability(np.zeros((2, 5, 5))).dip_reason == "all values are equal"
    broken = clusterability(np.full((1, 5, 5), np.nan))
    assert broken.dip_reason == "not a number"
    assert math.isnan(broken.neighbours)
    assert delta_opt(np.zeros((2, 1, 1))) == 0


def test_one_bad_image_does_not_spoil_the_others() -> None:
    good = layer(8, images=2)
    both = np.concatenate([np.zeros((1, 8, 8)), good])
    found = clusterability(both)
    assert found.dip == pytest.approx(clusterability(good).dip)
    assert found.dip_reason == "1 of 3 images: all values are equal"


def test_an_image_that_is_no_number_is_left_out_of_every_measure() -> None:
    good = layer(8, images=2)
    bad = good[:1].copy()
    bad[0, 3, :] = bad[0, :, 3] = np.nan
    found, without = clusterability(np.concatenate([bad, good])), clusterability(good)
    assert (found.dip, found.dip_p, found.delta_opt) == pytest.approx((without.dip, without.dip_p, without.delta_opt))
    assert found.neighbours == pytest.approx(without.neighbours)
    np.testing.assert_allclose(found.histogram, without.histogram)
    assert found.dip_reason == "1 of 3 images: not a number"
    alone = clusterability(bad)
    assert np.isnan([alone.dip, alone.delta_opt, alone.neighbours]).all()
    assert np.isnan(neighbours_within(alone.histogram, np.array(8), 0.37))
    assert alone.nearest[3] == -1
    assert (alone.nearest[[0, 1, 2, 4, 5, 6, 7]] >= 0).all()
    assert 3 not in alone.nearest


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 1, 1, 2, 2, 2], 100.0),
        ([4, 4, 9, 9, 1, 1], -75.0),
        ([1, 5, 1.5], 50.0),
        ([2, 5, 5, 5, 3], 50.0),
        ([0, 0, 0], 0.0),
        ([0, 1, 2], math.inf),
        ([1, 2], math.nan),
        ([1], math.nan),
        ([], math.nan),
        ([math.nan, 1, 2], math.nan),
        ([math.nan, 2, 9, 9, 3, math.nan], 50.0),
        ([0, 0, math.nan], math.nan),
    ],
)
def test_change_between_the_first_and_the_last_third(values: list[float], expected: float) -> None:
    assert change(range(1, len(values) + 1), values) == pytest.approx(expected, nan_ok=True)


def test_change_with_gaps_takes_thirds_of_the_epochs_not_of_the_rows() -> None:
    assert change([1, 2, 3, 9], [1, 1, 1, 2]) == pytest.approx(100)
    assert change([1, 5, 9], [1, 7, 3]) == pytest.approx(200)


def test_table_of_changes() -> None:
    rows = [
        {"epoch": e, "layer": name, "dip": d, "delta_opt": 0.2 - 0.01 * e, "neighbours": n}
        for e in range(1, 7)
        for name, d, n in (("big", 0.01 * e, 2.0 * e), ("small", math.nan, 0.0))
    ]
    table = changes(pd.DataFrame(rows), {"big": 480, "small": 32, "gone": 8})
    assert table["layer"].tolist() == ["big", "small", "gone"]
    assert table.loc[0, "dip"] == pytest.approx(100 * (5.5 / 1.5 - 1))
    assert table.loc[1, "neighbours"] == 0
    assert math.isnan(table.loc[1, "dip"])
    assert table.loc[2, ["dip", "delta_opt", "neighbours"]].isna().all()
    of = {s.measure: (s.large, s.large_of, s.small, s.small_of) for s in summarise(table)}
    assert of == {"dip": (1, 1, 0, 0), "delta_opt": (1, 1, 1, 1), "neighbours": (1, 1, 0, 1)}


def test_the_papers_own_table_reads_as_the_paper_reads_it() -> None:
    table = paper_table4()
    assert len(table) == 22
    of = {s.measure: (s.large, s.large_of, s.small, s.small_of) for s in summarise(table)}
    assert of == {"dip": (6, 7, 7, 15), "delta_opt": (7, 7, 7, 15), "neighbours": (7, 7, 7, 15)}


def test_agreement_in_sign() -> None:
    paper = paper_table4()
    assert agreement(paper, paper)[["dip", "delta_opt", "neighbours"]].all(axis=None)
    other = paper.copy()
    other.loc[0, "dip"] = 12.0
    other.loc[1, "dip"] = math.nan
    other.loc[2, "neighbours"] = math.inf
    found = agreement(other.drop(index=5), paper)
    assert len(found) == 21
    assert found["dip"].tolist()[:3] == [False, None, True]
    assert found["neighbours"].tolist()[2] is False
