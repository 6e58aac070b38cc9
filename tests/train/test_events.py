"""What programs hear of a training: lines of JSON, and nothing else, on stdout."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from sauron_train.cli import main
from sauron_train.console import console
from sauron_train.data.phantom import make_phantom
from sauron_train.runlog import Run

TINY = [
    "epochs=2", "data.patch=[32, 32]", "data.steps_per_epoch=2", "data.batch_size=2", "data.workers=0",
    "network.init_filters=4", "network.levels=3", "probe.images=1", "prune.enabled=false", "hardware.accelerator=cpu",
]  # fmt: skip


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_phantom(tmp_path / "data", dim=2, cases=4, seed=1, size=(40, 40, 4))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command with --json; its exit code, events and words."""
    monkeypatch.setattr(console, "stderr", console.stderr)

    def command(*words: str | Path) -> tuple[int, list[dict[str, Any]], str]:
        monkeypatch.setattr(sys, "argv", ["sauron-train", *map(str, words), "--json"])
        with pytest.raises(SystemExit) as leaving:
            main()
        heard = capsys.readouterr()
        code = leaving.value.code
        return int(code or 0), [json.loads(line) for line in heard.out.splitlines()], heard.err

    return command


def test_a_training_is_told_event_by_event(told: Any, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    changes = [f"--set={change}" for change in TINY]
    code, events, words = told("run", "--recipe", "phantom2d", "--data", data, "--out", out, *changes)
    assert code == 0
    kinds = [event["event"] for event in events]
    assert kinds[:5] == ["loading"] * 4 + ["begun"]
    assert kinds[-2:] == ["epoch", "ended"]
    assert {"step", "stage"} <= set(kinds)
    assert events[4] == {"event": "begun", "epochs": 2, "done": 0, "dataset": "Phantom2D", "device": "cpu"}
    row = Run(out).epochs().iloc[-1]
    last = events[-2]
    assert (last["epoch"], last["epochs"], last["dice"]) == (2, 2, pytest.approx(row["val_dice"], abs=1e-6))
    assert events[-1] == {"event": "ended", "how": "finished", "why": ""}
    assert all(event["epochs"] == 2 for event in events if event["event"] in ("step", "stage", "epoch"))
    assert "of the FLOPs are left" in words, "people find theirs on stderr"


def test_why_it_failed_is_told(told: Any, data: Path, tmp_path: Path) -> None:
    code, events, words = told(
        "run", "--recipe", "phantom2d", "--data", data, "--out", tmp_path / "o", "--set=epochs=x"
    )
    assert code == 2
    assert [event["event"] for event in events] == ["ended"]
    assert events[0]["how"] == "failed"
    assert events[0]["why"].startswith("epochs must be a whole number")
    assert words == f"error: {events[0]['why']}\n"
    code, events, _ = told("resume", tmp_path)
    assert (code, events[0]["how"]) == (2, "failed")
    assert "is not a run folder" in events[0]["why"]
