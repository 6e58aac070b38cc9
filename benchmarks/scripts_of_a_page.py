"""Which numbered scripts a page of the dashboard asks for: what sauron_viz/scripts.py should bring at once.

python benchmarks/scripts_of_a_page.py /usr/bin/chromium

To be run after an update of Voila, JupyterLab's widgets or anywidget. Walks through all tabs, with the one file empty.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "viz"))

from browsing import Served
from dashboard_in_browser import CHART, FLAGS, SHORT, TABS, turn
from playwright.sync_api import sync_playwright
from sample import write_run

_PART = re.compile(r"/voila/(?:static|labextensions/(.*)/static)/(\d+)\.[\w.]*js")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("browser", help="path of Chromium")
    arguments = parser.parse_args()
    found: dict[str, set[int]] = defaultdict(set)

    def note(request: Any) -> None:
        part = _PART.search(request.url)
        if part:
            found[part[1] or "Voila"].add(int(part[2]))

    with tempfile.TemporaryDirectory() as runs, sync_playwright() as playwright:
        write_run(Path(runs) / "short", SHORT)
        browser = playwright.chromium.launch(executable_path=arguments.browser, args=FLAGS)
        server = Served(Path(runs), "dashboard", "--no-preload")
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.on("request", note)
        page.route("**/voila/sauron.js*", lambda route: route.fulfill(body="", content_type="text/javascript"))
        page.goto(f"{server.url}?run=short&tab=pruning")
        page.wait_for_selector(CHART)
        for tab in TABS:
            turn(page, tab)
        page.close()
        server.stop()
        browser.close()
    for name, numbers in found.items():
        print(f"{name}:", *sorted(numbers))


if __name__ == "__main__":
    main()
