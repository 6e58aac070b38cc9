"""Reports: one file that says all, opens from disk and loads nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from browser_search import find_browser
from browsing import barriers
from sample import Spec, write_run
from typer.testing import CliRunner

from sauron_train.errors import RunError
from sauron_viz.cli import app
from sauron_viz.report import build_report
from sauron_viz.report.pdf import PrintError, find_chromium, print_pdf

EVIL = "</script><img src=x onerror=document.title='gone'>"


@pytest.fixture(scope="module")
def page_of_rats(runs: Path) -> str:
    return build_report([runs / "rats"])


def test_a_report_refers_to_nothing_outside_it(page_of_rats: str) -> None:
    # Without the library of charts, which names addresses that it does not call here.
    own = re.sub(r'<script type="application/octet-stream".*?</script>', "", page_of_rats, flags=re.DOTALL)
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", own)
    assert set(re.findall(r"https?://[\w./-]+", own)) <= {"http://www.w3.org/2000/svg"}
    assert "import(" not in own


def test_one_run_has_no_comparison_and_several_have(runs: Path, page_of_rats: str) -> None:
    assert "How they ended" not in page_of_rats
    both = build_report([runs / "rats", runs / "off", runs / "rats"])
    assert both.count("<h2>rats</h2>") == 1
    assert "How they ended" in both
    assert "<h1>Sauron: 2 runs</h1>" in both


def test_a_folder_stands_for_its_runs_and_damage_is_said(runs: Path) -> None:
    (only := runs.parent / "some").mkdir(exist_ok=True)
    for name in ("a", "deep/b"):
        if not (only / name).exists():
            write_run(only / name, Spec(epochs=2, maps=False))
    assert "<h1>Sauron: 2 runs</h1>" in build_report([only])
    text = build_report([runs / "rats", runs / "damaged"])
    assert "not valid JSON" in text
    assert "<h2>damaged</h2>" in text


def test_a_run_that_goes_on_is_not_called_live_in_a_report(runs: Path) -> None:
    page = build_report([runs / "bare"])
    assert "was training when this was made" in page
    assert "<dd>live</dd>" not in page


def test_what_cannot_be_shown_is_said(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run in"):
        build_report([tmp_path])
    with pytest.raises(RunError, match="has no maps of enc_conv_9"):
        build_report([runs / "rats"], ["enc_conv_9"])
    with pytest.raises(RunError, match="holds no feature maps"):
        build_report([runs / "bare"], ["enc_conv_1"])
    with pytest.raises(RunError, match="probe images 0 to 1, not 7"):
        build_report([runs / "rats"], ["enc_conv_1"], image=7)


@pytest.mark.parametrize("field", ["dataset", "message", "device", "fingerprint"])
def test_no_field_of_a_run_becomes_markup(tmp_path: Path, field: str) -> None:
    path = write_run(tmp_path / "evil", Spec(epochs=3, maps=False)) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: EVIL, "status": "failed"}))
    assert EVIL not in build_report([tmp_path / "evil"])
    other = write_run(tmp_path / "other", Spec(epochs=2, maps=False))
    assert "<img src=x" not in build_report([tmp_path / "evil", other])


def test_the_command_says_what_is_wrong_and_writes_nothing(runs: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken.html"
    taken.write_text("mine")
    for arguments, words in (
        (["--out", str(taken)], "exists already"),
        (["--out", str(tmp_path / "report.docx")], "neither .html nor .pdf"),
        (["--out", str(tmp_path / "nowhere" / "report.html")], "is not a folder"),
    ):
        done = CliRunner().invoke(app, ["report", str(runs / "rats"), *arguments])
        assert words in str(done.exception)
    assert taken.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["taken.html"]


def test_without_chromium_a_pdf_is_refused_before_anything_is_made(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SAURON_CHROMIUM", raising=False)
    monkeypatch.setattr("os.path.exists", lambda _: False)
    with pytest.raises(PrintError, match="not here; install it"):
        find_chromium()
    monkeypatch.setenv("SAURON_CHROMIUM", str(tmp_path / "none"))
    with pytest.raises(PrintError, match="could not print"):
        print_pdf("<p>", tmp_path / "report.pdf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.browser
@pytest.mark.soak
def test_a_pdf_is_printed(chromium: Any, page_of_rats: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAURON_CHROMIUM", find_browser(""))
    print_pdf(page_of_rats, tmp_path / "report.pdf")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(content) > 100_000


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.soak)])
def test_it_opens_from_disk(chromium: Any, page_of_rats: str, tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(page_of_rats, encoding="utf-8")
    page = chromium.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else wrong.append(r.url))
    page.goto(f"{path.as_uri()}#print")
    page.wait_for_function("""() => { const charts = [...document.querySelectorAll('.sauron-chart')];
      return charts.length >= 5 && charts.every((card) => card.dataset.ready === 'yes'); }""")
    assert page.locator(".sauron-network[data-ready=yes]").count() == 2
    assert page.locator("details").count() >= 1, "the configuration"
    assert page.locator("details:not([open])").count() == 0, "on paper nothing can be opened"
    slider = page.get_by_role("slider", name="Epoch")
    slider.focus()
    slider.press("Home")
    page.wait_for_selector(".sauron-network[data-epoch='1']")
    page.wait_for_selector(".sauron-network[data-epoch='0']")
    page.get_by_role("button", name="Dice before").click()
    page.wait_for_selector("th[aria-sort=descending] >> text=Dice before")
    assert page.locator(".sauron-gallery svg").count() >= 1
    assert barriers(page) == []
    page.close()
    assert wrong == []
