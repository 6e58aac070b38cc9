"""A report on paper, printed by the Chromium of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from sauron_train.errors import SauronError
from sauron_train.runlog.files import write_atomically

ENVIRONMENT = "SAURON_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
_MAC = "/Applications/{0}.app/Contents/MacOS/{0}"
_LIMIT_S = 180
_DRAWN_MS = 30_000


class PrintError(SauronError):
    """The report cannot be printed."""


def print_pdf(page: str, out: Path) -> None:
    """Print a page into a file, whole or not at all.

    Raises:
        PrintError: there is no Chromium, or it could not print.
    """
    browser = find_chromium()
    with tempfile.TemporaryDirectory(prefix="sauron-print-") as place:
        source, target = Path(place) / "report.html", Path(place) / "report.pdf"
        source.write_text(page, encoding="utf-8")
        command = [browser, "--headless", "--disable-gpu", "--no-first-run", f"--user-data-dir={place}/profile"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            # Its sandbox cannot be had as root; the page is our own and loads nothing.
            command.append("--no-sandbox")
        command += ["--window-size=1240,1754", f"--virtual-time-budget={_DRAWN_MS}", "--no-pdf-header-footer"]
        try:
            done = subprocess.run(
                [*command, f"--print-to-pdf={target}", f"{source.as_uri()}#print"],
                capture_output=True,
                text=True,
                timeout=_LIMIT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PrintError(f"{browser} could not print the report ({error}); write it as HTML instead") from None
        if not target.is_file() or not target.stat().st_size:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise PrintError(f"{browser} printed nothing ({said}); write the report as HTML instead")
        write_atomically(out, target.read_bytes())


def find_chromium() -> str:
    """The program that prints.

    Raises:
        PrintError: there is none.
    """
    named = os.environ.get(ENVIRONMENT)
    places = [_MAC.format(name) for name in ("Google Chrome", "Chromium", "Microsoft Edge")]
    found = [named] if named else [*filter(None, map(shutil.which, _NAMES)), *filter(os.path.exists, places)]
    if not found:
        raise PrintError(
            f"a PDF is printed by Chromium or Chrome, which is not here; install it, name it in {ENVIRONMENT}, or "
            "write the report as HTML and print that"
        )
    return found[0]
