"""What a page of the dashboard is made of, as it is installed here."""

from __future__ import annotations

import pytest

from sauron_viz.scripts import gather


@pytest.mark.parametrize(
    ("short", "long"),
    [
        (b"AbortSignal.timeout(2000)", b"AbortSignal.timeout(120000)"),
        (b'"Control comm did not respond in time"),4e3', b'"Control comm did not respond in time"),12e4'),
    ],
    ids=["anywidget", "kernel"],
)
def test_limits_that_a_busy_machine_exceeds_are_longer(short: bytes, long: bytes) -> None:
    source = gather().source
    assert source.count(short) == 0
    assert source.count(long) == 1


def test_widgets_wait_for_each_other() -> None:
    source = gather().source
    place = source.index(b"widget model not found")
    assert b"<12e4;" in source[place - 300 : place]


def test_the_address_changes_with_the_parts() -> None:
    scripts = gather()
    assert scripts.version == gather().version
    assert scripts.version != type(scripts)(scripts.source + b" ").version
