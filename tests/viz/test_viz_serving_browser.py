"""The served dashboard as a department meets it: behind nginx, with a token, with kernels that end and die."""

from __future__ import annotations

import re
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from browsing import Served, barriers, clean_page, free_port, wait_until

pytestmark = pytest.mark.browser

TOKEN = "correct-horse-battery-staple"
GRID = ".sauron-grid[data-ready*='|']"
CHART = ".sauron-chart[data-ready=yes] >> visible=true"
# As in docs/serving.md, but for certificates, and as the user who runs the tests.
NGINX = """
daemon off;
worker_processes 1;
error_log stderr;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
{location}
    }}
}}
"""
# What takes minutes on a server.
HASTY = "import sauron_viz.serve as s; s.IDLE_S, s.UNSEEN_S, s.LOOK_EVERY_S = 10, 10, 1"
DOCS = Path(__file__).parents[2] / "docs" / "serving.md"


class Nginx:
    """nginx in front of a server, set up as docs/serving.md says."""

    def __init__(self, folder: Path, served: Served) -> None:
        self.port, self.folder = free_port(), folder
        self.url = f"http://127.0.0.1:{self.port}/sauron/"
        settings = folder / "nginx.conf"
        location = location_of_docs().replace(":8866", f":{served.port}")
        settings.write_text(NGINX.format(folder=folder, port=self.port, location=location))
        self.process = subprocess.Popen(
            ["nginx", "-e", "stderr", "-p", folder, "-c", settings], stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: self.process.poll() is not None or (folder / "nginx.pid").exists())
        assert self.process.poll() is None, self.stop()

    @property
    def log(self) -> str:
        """What it wrote about requests."""
        return (self.folder / "access.log").read_text()

    def stop(self) -> str:
        """End it; returns what it said."""
        self.process.terminate()
        return self.process.communicate(timeout=30)[1]


def location_of_docs() -> str:
    """The part of the recipe that says how requests are handed on."""
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip().startswith("location /sauron/"))
    end = next(i for i, line in enumerate(lines[start:], start) if line.strip() == "}")
    return "\n".join(lines[start : end + 1])


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Callable[[Served], Nginx]]:
    if not shutil.which("nginx"):
        pytest.skip("nginx is missing; install it with apt-get install nginx-light")
    started: list[Nginx] = []

    def start(served: Served) -> Nginx:
        started.append(Nginx(tmp_path, served))
        return started[-1]

    yield start
    for proxy in started:
        proxy.stop()


def test_behind_nginx_below_a_path_with_a_token(
    serve: Callable[..., Served], nginx: Callable[[Served], Nginx], page: Any, runs: Path
) -> None:
    proxy = nginx(serve(runs, "dashboard", "--base-url", "/sauron/", SAURON_TOKEN=TOKEN))
    page.goto(f"{proxy.url}?run=rats&tab=maps")
    page.wait_for_selector("#token")
    assert page.evaluate("document.activeElement.id") == "token"
    page.keyboard.type(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector(GRID)
    page.get_by_role("tab", name="Pruning").click()
    page.wait_for_selector(CHART)
    page.wait_for_function("location.search.includes('tab=pruning')")
    address = page.url
    assert address.startswith(f"{proxy.url}?run=rats&tab=pruning")
    with page.expect_download() as caught:
        page.get_by_role("button", name="Save Cost and quality, epoch by epoch as PNG").click()
    assert Path(caught.value.path()).read_bytes().startswith(b"\x89PNG")
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector(CHART)
    assert page.url == address
    assert f"GET {proxy.url.removeprefix('http://127.0.0.1').partition('/')[1]}sauron/api/kernels/" in proxy.log
    assert " 101 " in proxy.log
    assert TOKEN not in proxy.log


@pytest.fixture(scope="module")
def guarded(runs: Path) -> Iterator[Served]:
    """A server with a token and no prepared pages."""
    served = Served(runs, "dashboard", "--no-preload", SAURON_TOKEN=TOKEN)
    yield served
    served.stop()


@pytest.fixture(scope="module")
def hasty(runs: Path) -> Iterator[Served]:
    """A server that soon ends kernels without a page, and prepares none."""
    served = Served(runs, "dashboard", "--no-preload", first=HASTY)
    yield served
    served.stop()


@pytest.fixture
def context(chromium: Any) -> Iterator[Any]:
    """A browser that stays open when a page is closed: with its last page it would go before it has said so."""
    opened = chromium.new_context(viewport={"width": 1440, "height": 900})
    opened.new_page()
    yield opened
    opened.close()


def test_a_link_on_another_site_opens_for_who_is_logged_in(guarded: Served, context: Any) -> None:
    context.request.post(f"{guarded.url}login", form={"token": TOKEN}, max_redirects=0)
    page = context.new_page()
    link = f'<a href="{guarded.url}?run=rats&tab=pruning">Look at this</a>'
    page.route("http://elsewhere.example/", lambda route: route.fulfill(body=link, content_type="text/html"))
    page.goto("http://elsewhere.example/")
    page.click("a")
    page.wait_for_selector(CHART)
    assert page.url.startswith(f"{guarded.url}?run=rats&tab=pruning")


def test_a_wrong_token_is_said_and_the_right_one_leads_to_where_one_wanted(guarded: Served, chromium: Any) -> None:
    page = chromium.new_page(color_scheme="dark", viewport={"width": 420, "height": 800})
    page.goto(f"{guarded.url}?run=rats&tab=pruning")
    page.get_by_label("Token").fill("not this one")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_selector("[role=alert]:text-is('This is not the token.')")
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    assert barriers(page) == []
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_label("Token").press("Enter")
    page.wait_for_url(f"{guarded.url}?run=rats&tab=pruning", wait_until="commit")
    page.close()


def test_no_visit_leaves_a_kernel_behind(hasty: Served, context: Any) -> None:
    before = hasty.kernels()
    pages = [context.new_page(), context.new_page()]
    for page, query in zip(pages, ("run=rats", "run=kits"), strict=True):
        page.goto(f"{hasty.url}?{query}")
        page.wait_for_selector(GRID)
    opened = hasty.kernels()
    assert len(opened) == len(before) + 2
    pages[0].reload()
    pages[0].wait_for_selector(GRID)
    wait_until(lambda: len(hasty.kernels()) == len(before) + 2, pages[0])
    assert hasty.kernels() != opened
    for page in pages:
        page.close(run_before_unload=True)
    wait_until(lambda: hasty.kernels() == before, context.pages[0])


@pytest.mark.soak
def test_kernels_of_pages_that_went_without_a_word_end_too(hasty: Served, chromium: Any) -> None:
    with clean_page(chromium) as stays:
        stays.goto(f"{hasty.url}?run=rats")
        stays.wait_for_selector(GRID)
        [kept] = hasty.kernels()
        with clean_page(chromium, wordless=True) as goes:
            goes.goto(f"{hasty.url}?run=rats")
            goes.wait_for_selector(GRID)
        # A probe, or a visitor who leaves while the page is being prepared.
        with urllib.request.urlopen(hasty.url, timeout=60) as answer:
            assert b"jupyter-config-data" in answer.read()
        assert len(hasty.kernels()) == 3
        wait_until(lambda: hasty.kernels() == [kept], stays)
        stays.get_by_role("tab", name="Pruning").click()
        stays.wait_for_selector(CHART)
        # Its last word, before the next test counts kernels.
        stays.goto("about:blank")
        wait_until(lambda: hasty.kernels() == [], stays)


def test_a_kernel_that_dies_is_said_and_a_new_page_works(hasty: Served, chromium: Any) -> None:
    with clean_page(chromium) as page:
        page.goto(f"{hasty.url}?run=rats&tab=pruning")
        page.wait_for_selector(CHART)
        [kernel] = hasty.kernels()
        kernel.kill()
        page.wait_for_selector("text=Session lost")
        assert hasty.kernels() == []
        again = page.get_by_role("button", name="Reload")
        again.focus()
        again.press("Enter")
        page.wait_for_selector("text=Session lost", state="detached")
        page.wait_for_selector(CHART)
        assert len(hasty.kernels()) == 1


@pytest.mark.soak
def test_a_prepared_kernel_that_died_is_replaced_and_a_stopped_server_leaves_none(
    serve: Callable[..., Served], chromium: Any, runs: Path
) -> None:
    served = serve(runs, first="import sauron_viz.serve as s; s.LOOK_EVERY_S = 1")
    wait_until(lambda: len(served.kernels()) == 1)
    [prepared] = served.kernels()
    prepared.kill()
    wait_until(lambda: served.kernels() not in ([], [prepared]))
    page = chromium.new_page()
    page.goto(f"{served.url}?run=rats")
    page.wait_for_selector(GRID)
    # The page's own, and the one for the next visitor.
    wait_until(lambda: len(served.kernels()) == 2, page)
    kernels = served.kernels()
    served.stop()
    assert served.process.returncode == 0
    assert not psutil.wait_procs(kernels, timeout=60)[1]
    page.wait_for_selector("text=Session lost")
    page.close()


@pytest.mark.soak
def test_who_comes_just_after_the_prepared_kernel_died_gets_another(
    serve: Callable[..., Served], page: Any, runs: Path
) -> None:
    served = serve(runs)
    wait_until(lambda: len(served.kernels()) == 1)
    # Prepared it is once it waits for its visitor, for whom a new kernel would take this way too.
    page.goto(f"{served.url}?run=rats")
    page.wait_for_selector(GRID)
    wait_until(lambda: len(served.kernels()) == 2, page)
    [prepared] = [kernel for kernel in served.kernels() if kernel.pid == max(k.pid for k in served.kernels())]
    prepared.kill()
    prepared.wait(30)
    page.goto(f"{served.url}?run=rats&tab=pruning")
    page.wait_for_selector(CHART)


def test_a_page_asks_for_its_scripts_at_once(dashboard: Served, page: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{dashboard.url}?run=rats&tab=pruning")
    page.wait_for_selector(CHART)
    parts = [url for url in asked if re.search(r"/\d+\.[\w.]*js", url)]
    hint = "numbers have changed: benchmarks/scripts_of_a_page.py tells which sauron_viz/scripts.py should name"
    assert len(parts) < 5, (hint, parts)
    assert sum("/voila/sauron.js?v=" in url for url in asked) == 1
    # Another page of the same browser has it already.
    assert "immutable" in page.request.get(next(url for url in asked if "sauron.js" in url)).headers["cache-control"]


def test_a_page_that_starts_slowly_goes_on_working(dashboard: Served, page: Any) -> None:
    # anywidget would give up on widgets that take longer than its limit.
    page.add_init_script(
        "const timeout = AbortSignal.timeout.bind(AbortSignal);"
        "AbortSignal.timeout = (ms) => timeout(ms === 2000 ? 1 : ms);"
    )
    page.goto(f"{dashboard.url}?run=rats&tab=maps&epoch=1")
    page.wait_for_selector(GRID)
    page.get_by_role("slider", name="Epoch").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".sauron-grid[data-ready$='|4']")
    assert page.locator("text=Session lost").count() == 0


@pytest.mark.soak
def test_what_did_not_arrive_is_said_and_asked_for_again(dashboard: Served, chromium: Any) -> None:
    page = chromium.new_page(viewport={"width": 1440, "height": 900})
    page.route("**/plotly-cartesian.min.js*", lambda route: route.abort())
    page.goto(f"{dashboard.url}?run=rats&tab=pruning")
    page.wait_for_selector(".sauron-chart[data-ready=failed] >> text=plotly.js, which draws this chart, did not arrive")
    assert page.get_by_role("button", name="Save Cost and quality, epoch by epoch as PNG").count() == 0
    page.unroute("**/plotly-cartesian.min.js*")
    page.get_by_role("tab", name="Layer trends").click()
    page.wait_for_selector(CHART)
    page.goto("about:blank")
    page.route("**/voila/static/voila.js*", lambda route: route.abort())
    page.goto(f"{dashboard.url}?run=rats&tab=pruning")
    page.wait_for_selector("text=The page did not arrive whole. Reload it.")
    page.close()


@pytest.mark.soak
def test_scripts_that_come_late_find_the_page_whole(dashboard: Served, page: Any) -> None:
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    page.route("**/voila/sauron.js*", hold)
    page.goto(f"{dashboard.url}?run=rats&tab=pruning", wait_until="commit")
    page.wait_for_function("document.body?.dataset.kernelId")
    held[0].continue_()
    page.wait_for_selector(CHART)


def test_an_address_that_is_too_long_is_refused(dashboard: Served, page: Any) -> None:
    answer = page.request.get(f"{dashboard.url}?run={'x' * 40_000}")
    assert (answer.status, answer.text()) == (414, "This address is too long. Open the page without its query.\n")
