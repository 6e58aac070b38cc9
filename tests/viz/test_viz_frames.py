"""Maps as the canvas gets them: what is left and what went, their numbers, and the orders in which they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sample import Spec, write_run

from sauron_train.analysis.clusters import clusters
from sauron_viz.frames import (
    UNKNOWN,
    Frame,
    MapStats,
    Pictures,
    Removed,
    make_frame,
    make_pictures,
    slice_position,
    take_slice,
    to_bytes,
)
from sauron_viz.runs import Library, RunView


@pytest.fixture
def view(runs: Path) -> RunView:
    return Library(runs).open("rats")


def pictures_of(maps: Any, numbers: list[int] | None = None, epoch: int = 1, **cut: Any) -> Pictures:
    count = len(maps)
    filters = np.arange(count) if numbers is None else np.array(numbers)
    return make_pictures(np.asarray(maps), filters, np.zeros((count, count)), np.full(count, np.nan), epoch, **cut)


def frame_of(maps: Any) -> Frame:
    return make_frame(pictures_of(maps), [], lambda: clusters(np.zeros((len(maps), len(maps))), 0.1))


def test_each_map_has_its_own_range(view: RunView) -> None:
    stored = view.run.maps(4, "enc_conv_2")
    frame = view.frame(4, "enc_conv_2", 1)
    stats, left = frame.stats, frame.left
    assert stats.filters[left].tolist() == stored.filters.tolist()
    maps = stored.image(1).astype(np.float32)
    low, high = stats.low[left], stats.high[left]
    restored = low[:, None, None] + frame.pixels[left] / 255 * (high - low)[:, None, None]
    assert np.abs(restored - maps).max() <= ((high - low) / 255 * 0.51).max()
    assert frame.pixels[left].min(axis=(1, 2)).max() == 0
    assert frame.pixels[left].max(axis=(1, 2)).min() == 255
    np.testing.assert_allclose(stats.variance[left], maps.var(axis=(1, 2)), rtol=1e-3)
    distances, place = stored.distances(1), 3
    others = np.delete(np.arange(len(maps)), place)
    nearest = others[distances[place, others].argmin()]
    assert stats.nearest[left][place] == stored.filters[nearest]
    assert stats.nearest_distance[left][place] == pytest.approx(distances[place, nearest])
    assert stats.to_reference[left][place] == distances[0, place]
    assert frame.index(int(stored.filters[2])) == left[2]
    assert frame.index(10_000) is None
    assert view.frame(4, "enc_conv_2", 1) is frame


def test_filters_that_went_keep_their_place_with_their_last_picture(view: RunView) -> None:
    last = view.map_epochs[-1]
    layer = max(view.prunings, key=lambda cut: len(cut.removed)).layer
    frame = view.frame(last, layer, 0)
    stats = frame.stats
    filters = next(info.filters for info in view.info.layers if info.name == layer)
    assert stats.filters.tolist() == list(range(filters))
    records = {gone.filter: (cut, gone) for cut in view.prunings if cut.layer == layer for gone in cut.removed}
    assert set(stats.filters[stats.gone != 0].tolist()) == set(records)
    seen_somewhere = 0
    for number, (cut, gone) in records.items():
        row = frame.index(number)
        assert row is not None
        assert not frame.is_left(row)
        assert (stats.gone[row], stats.nearest[row]) == (cut.epoch, gone.nearest)
        assert stats.threshold[row] == pytest.approx(cut.threshold)
        assert stats.nearest_distance[row] == pytest.approx(gone.distance)
        before = [e for e in view.map_epochs if e < cut.epoch]
        assert stats.seen[row] == (before[-1] if before else 0)
        if not before:
            assert not frame.pixels[row].any()
            continue
        seen_somewhere += 1
        earlier = view.frame(before[-1], layer, 0)
        np.testing.assert_array_equal(frame.pixels[row], earlier.pixels[earlier.index(number)])
        assert stats.high[row] == earlier.stats.high[earlier.index(number)]
    assert seen_somewhere > 0
    first = view.frame(view.map_epochs[0], layer, 0)
    assert len(first.left) > len(frame.left)


def test_orders(view: RunView) -> None:
    frame = view.frame(view.map_epochs[-1], "dec_conv_3", 0)
    stats = frame.stats
    assert list(frame.orders) == ["number", "reference", "variance", "clusters"]
    for order in frame.orders.values():
        assert sorted(order.tolist()) == list(range(len(stats.filters)))
    known = [row for row in frame.orders["reference"] if stats.seen[row]]
    assert (np.diff(stats.to_reference[known]) >= 0).all()
    assert (np.diff(stats.variance[known := [r for r in frame.orders["variance"] if stats.seen[r]]]) <= 0).all()
    left = [row for row in frame.orders["clusters"] if frame.is_left(row)]
    assert (np.diff(frame.cluster[left]) >= 0).all()
    assert (frame.cluster[stats.gone != 0] == -1).all()
    assert set(frame.cluster[frame.left].tolist()) == set(range(frame.cluster.max() + 1))


def test_what_went_stands_beside_the_survivor_that_says_most_nearly_the_same() -> None:
    now = make_pictures(
        np.random.default_rng(0).random((3, 4, 4)),
        np.array([1, 4, 5]),
        np.array([[0, 0.9, 0.05], [0.9, 0, 0.9], [0.05, 0.9, 0]]),
        np.zeros(3),
        8,
    )
    together = clusters(np.array([[0, 0.9, 0.05], [0.9, 0, 0.9], [0.05, 0.9, 0]]), 0.1)
    # 0 went to 4; 2 went to 3, which went to 5 later; 6 was never known.
    gone = [Removed(0, 2, 0.1, 4, 0.2), Removed(2, 3, 0.1, 3, 0.1), Removed(3, 6, 0.2, 5, 0.1), Removed(6)]
    frame = make_frame(now, [(record, None) for record in gone], lambda: together)
    shown = frame.stats.filters[frame.orders["clusters"]].tolist()
    assert shown[-1] == 6
    assert shown[shown.index(4) + 1] == 0
    assert shown[shown.index(5) + 1 : shown.index(5) + 3] == [2, 3]
    assert abs(shown.index(1) - shown.index(5)) in (1, 3)
    assert frame.stats.gone.tolist() == [2, 0, 3, 6, 0, 0, UNKNOWN]
    assert frame.stats.seen.tolist() == [0, 8, 0, 0, 8, 8, 0]


def test_on_the_common_scale_only_the_extremes_of_the_layer_reach_the_ends() -> None:
    frame = frame_of(np.array([[[0, 1]], [[1, 4]]], np.float32))
    assert frame.whole_range == (0, 4)
    assert [frame.on_common_scale(row).tolist() for row in (0, 1)] == [[[0, 64]], [[64, 255]]]
    assert frame.values(1).tolist() == [[1, 4]]


def test_the_canvas_gets_every_number_in_its_order(view: RunView) -> None:
    frame = view.frame(4, "enc_conv_2", 0)
    count = len(frame.stats.filters)
    table = np.frombuffer(frame.packed()[1], np.float32).reshape(-1, count)
    assert len(table) == 11 + 1 + len(frame.orders)
    np.testing.assert_array_equal(table[0], frame.stats.filters)
    np.testing.assert_array_equal(table[8], frame.stats.gone)
    np.testing.assert_array_equal(table[11], frame.cluster)
    np.testing.assert_array_equal(table[-1], frame.orders["clusters"])
    again = MapStats.of(frame.stats.rows())
    np.testing.assert_array_equal(again.rows(), frame.stats.rows())


def test_one_constant_map_alone_is_no_problem() -> None:
    frame = frame_of(np.ones((1, 4, 4), np.float16))
    assert frame.pixels.max() == 0
    assert frame.stats.nearest.tolist() == [-1]


def test_a_map_that_is_no_number_is_blank_and_spoils_no_other() -> None:
    maps = np.random.default_rng(0).random((3, 4, 4)).astype(np.float16)
    maps[1, 2, 2] = np.nan
    distances = np.array([[0, np.nan, 0.3], [np.nan, 0, np.nan], [0.3, np.nan, 0]])
    pictures = make_pictures(maps, np.arange(3), distances, np.zeros(3), 1)
    frame = make_frame(pictures, [], lambda: clusters(distances, 0.5))
    assert np.isnan(frame.stats.low[1])
    assert frame.stats.nearest.tolist() == [2, -1, 0]
    assert not frame.pixels[1].any()
    assert np.isfinite(frame.whole_range).all()
    assert frame.pixels[0].max() == 255
    assert frame.orders["clusters"].tolist()[-1] == 1
    assert not frame.on_common_scale(1).any()


def test_maps_that_were_stored_smaller_before_leave_no_picture_of_another_size() -> None:
    now = pictures_of(np.random.default_rng(0).random((1, 4, 4)), [0], epoch=9)
    before = pictures_of(np.random.default_rng(0).random((2, 2, 2)), [0, 1], epoch=3)
    frame = make_frame(now, [(Removed(1, 5, 0.1, 0, 0.1), before)], lambda: clusters(np.zeros((1, 1)), 0.1))
    assert not frame.pixels[1].any()
    assert frame.stats.gone.tolist() == [0, 5]
    assert frame.stats.seen.tolist() == [9, 0]


def test_volumes_are_cut_along_any_axis_and_keep_the_range_of_the_volume() -> None:
    volume = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    pictures = pictures_of(volume, axis=1, position=2)
    assert pictures.pixels.shape == (2, 3, 5)
    assert pictures.stats.high.tolist() == [59, 119]
    assert take_slice(volume, 0, None).shape == (2, 4, 5)
    assert [slice_position(share, 4) for share in (0, 0.3, 0.99, 1)] == [0, 1, 3, 3]
    assert to_bytes(np.array([[0, 1], [2, 4]])).tolist() == [[0, 64], [128, 255]]


def test_a_run_that_begins_with_fewer_filters_shows_the_others_as_gone_before(tmp_path: Path) -> None:
    write_run(tmp_path / "one", Spec(epochs=4, every=2))
    (tmp_path / "one" / "prunings.jsonl").write_text("")
    view = Library(tmp_path).open("one")
    layer = next(i.name for i in view.info.layers if len(view.run.maps(4, i.name).filters) < i.filters)
    frame = view.frame(4, layer, 0)
    assert set(frame.stats.gone.tolist()) == {0, UNKNOWN}
