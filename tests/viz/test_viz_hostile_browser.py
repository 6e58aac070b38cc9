"""Names that are markup, and addresses that lead elsewhere, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsing import Served
from sample import SampleRun, Spec

pytestmark = [pytest.mark.browser, pytest.mark.soak]

EVIL = '<img src=x onerror="window.hacked=1">'
# A folder's name can hold anything but a slash.
FOLDER = EVIL.replace("/", "")


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """Two runs in which every text that somebody else may have chosen is markup."""
    for name in (f"a {FOLDER}", f"b {FOLDER}"):
        run = SampleRun(tmp_path / "runs" / name, Spec(epochs=4, every=1))
        run.probe = replace(run.probe, names=tuple(f"{EVIL} {n}" for n in range(len(run.probe.names))))
        run.run().writer.finish("failed")
        path = run.path / "run.json"
        values = json.loads(path.read_text())
        values |= {"message": EVIL, "dataset": EVIL, "remarks": [EVIL], "device": EVIL, "host": EVIL}
        values |= {"train_cases": [EVIL], "validation_cases": [EVIL], "probe_images": [EVIL]}
        path.write_text(json.dumps(values))
    (tmp_path / "secret").mkdir()
    SampleRun(tmp_path / "secret" / "hidden", Spec(epochs=2, every=1)).run().writer.finish("finished")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "secret")
    return tmp_path / "runs"


DRAWN = {
    "maps": ".sauron-grid[data-ready*='|']",
    "trends": ".sauron-chart[data-ready=yes]",
    "pruning": ".sauron-network[data-ready=yes]",
    "compare": "h2:text-is('How they ended')",
}


@pytest.mark.parametrize("tab", DRAWN)
def test_no_name_becomes_part_of_the_page(serve: Callable[..., Served], page: Any, evil: Path, tab: str) -> None:
    page.goto(f"{serve(evil).url}?tab={tab}")
    page.wait_for_selector(f"{DRAWN[tab]} >> visible=true")
    assert EVIL[:8] in page.inner_text("body"), "the names are shown, as text"
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize("run", ["../secret/hidden", "link/hidden", "/etc", "..%2F..%2Fetc", EVIL, "a\0b"])
def test_no_address_leads_out_of_the_folder(serve: Callable[..., Served], page: Any, evil: Path, run: str) -> None:
    page.goto(f"{serve(evil).url}?run={run}&epoch=-1&layer={EVIL}&tab={EVIL}")
    page.wait_for_selector(f"{DRAWN['maps']} >> visible=true")
    text = page.inner_text("body")
    assert "hidden" not in text.replace(run, "")
    assert "Traceback" not in text
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("window.hacked") is None
