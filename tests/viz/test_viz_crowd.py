"""A server that has much to do: pages come whole or not at all, leave nothing, and are not more than it holds."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from answers import Answer
from browsing import Served, wait_until

# Takes its time over each of the hundred and more messages by which a page's widgets are made, as among many visitors.
BUSY = """
import time
from nbclient import NotebookClient
quick = NotebookClient.process_message
NotebookClient.process_message = lambda *order: time.sleep(0.06) or quick(*order)
"""


@pytest.mark.parametrize(("more", "whole"), [("", True), ("import sauron_viz.serve as s; s._OUTPUTS_S = 1", False)])
def test_a_busy_server_sends_the_page_or_says_that_it_could_not(runs: Path, more: str, whole: bool) -> None:
    served = Served(runs, "dashboard", "--no-preload", first=BUSY + more)
    try:
        page = Answer(served, "/?run=rats").text
    finally:
        served.stop()
    assert ("application/vnd.jupyter.widget-view+json" in page) == whole
    assert ("The server has too much to do" in page) != whole


# Tells again and again of how many pages the server holds something, and of how many it did at most.
COUNTING = """
import gc, os, sys, threading, time
def count():
    most = 0
    while True:
        time.sleep(0.5)
        client = sys.modules.get("nbclient.client")
        if client is not None:
            held = sum(isinstance(each, client.NotebookClient) for each in gc.get_objects())
            most = max(held, most)
            with open(os.environ["COUNTS"] + ".new", "w") as file:
                file.write(f"{held} {most}")
            os.replace(os.environ["COUNTS"] + ".new", os.environ["COUNTS"])
threading.Thread(target=count, daemon=True).start()
"""


def test_nothing_of_a_page_is_held_after_it_was_closed(runs: Path, tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    served = Served(runs, "dashboard", "--no-preload", first=COUNTING, COUNTS=str(counts))
    try:
        for _ in range(3):
            kernel = re.search(r'"kernelId": ?"([^"]+)"', Answer(served, "/?run=rats").text)
            assert kernel is not None
            assert Answer(served, f"/voila/api/shutdown/{kernel[1]}", "POST").status == 204
        wait_until(lambda: counts.exists() and int(counts.read_text().split()[1]) > 0)
        wait_until(lambda: int(counts.read_text().split()[0]) == 0)
    finally:
        served.stop()


def test_who_comes_when_all_pages_are_taken_is_told_so(runs: Path) -> None:
    served = Served(runs, "dashboard", "--most-pages", "2")
    try:
        opened = [Answer(served, "/?run=rats") for _ in range(2)]
        assert [page.status for page in opened] == [200, 200]
        refused = Answer(served, "/?run=rats")
        assert (refused.status, "at most 2 pages at a time" in refused.text) == (503, True)
        kernel = re.search(r'"kernelId": ?"([^"]+)"', opened[0].text)
        assert kernel is not None
        Answer(served, f"/voila/api/shutdown/{kernel[1]}", "POST")
        wait_until(lambda: Answer(served, "/?run=rats").status == 200)
    finally:
        served.stop()


def test_a_page_that_is_being_opened_is_one_page(runs: Path) -> None:
    served = Served(runs, "dashboard", "--most-pages", "2", "--no-preload", first=BUSY)
    try:
        with ThreadPoolExecutor(3) as visitors:
            first = visitors.submit(Answer, served, "/?run=rats")
            wait_until(lambda: len(served.kernels()) == 1)
            second = visitors.submit(Answer, served, "/?run=rats")
            wait_until(lambda: len(served.kernels()) == 2)
            assert not first.done(), "the first page was open before the second came"
            assert Answer(served, "/?run=rats").status == 503
            assert [page.result().status for page in (first, second)] == [200, 200]
    finally:
        served.stop()


def test_a_page_that_is_prepared_is_nobodys_yet(runs: Path) -> None:
    served = Served(runs, "dashboard", "--most-pages", "2", first=BUSY)
    try:
        assert Answer(served, "/?run=rats").status == 200
        # Another page is prepared for whoever comes next.
        wait_until(lambda: len(served.kernels()) == 2)
        assert Answer(served, "/?run=rats").status == 200
        assert Answer(served, "/?run=rats").status == 503
    finally:
        served.stop()


def test_a_burst_of_visitors_takes_no_more_pages_than_there_are(runs: Path) -> None:
    served = Served(runs, "dashboard", "--most-pages", "2", "--no-preload")
    try:
        with ThreadPoolExecutor(8) as visitors:
            statuses = list(visitors.map(lambda _: Answer(served, "/?run=rats").status, range(8)))
        assert set(statuses) == {200, 503}
        assert statuses.count(200) <= 2
        assert len(served.kernels()) <= 2
    finally:
        served.stop()
