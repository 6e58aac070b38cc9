"""Makes the pictures of this folder: `python docs/pictures.py RUNS DATA [NAME ...]`, all of them or the named ones.

Needs Playwright and Chromium, as the tests do. RUNS holds hippo and sunny, made by benchmarks/against_baseline.py, the
runs of studies/clusterability.yaml under table4, and those of studies/benchmark.yaml on the left ventricle under bench.
DATA holds the data set `phantom` of `make demo`: for the picture of the tab Training a run `first` is trained on it and
stopped again.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent / "images"
CHART = ".sauron-chart[data-ready=yes] >> visible=true"
TABLE4 = "table4/delta_opt_seed_0"
ARMS = "".join(f"&with=bench/{arm}_seed_{seed}" for arm in ("baseline", "sauron", "lambda_0") for seed in (0, 1, 2))
TRAINING = "training"
JOB = ".sauron-job[data-id=first]"
# Name of the picture, address, height in CSS pixels, dark or light.
PICTURES = (
    ("runs", "tab=runs", 960, "light"),
    ("trends", f"run={TABLE4}&tab=trends&layer=enc_conv_10", 1180, "light"),
    ("trends-multiples", f"run={TABLE4}&tab=trends&measure=neighbours_share&form=multiples", 1180, "light"),
    ("trends-heat", "run=sunny&tab=trends&measure=delta_opt&form=heat", 980, "dark"),
    ("dashboard", "run=hippo&tab=pruning&epoch=12&layer=enc_conv_7", 860, "light"),
    ("pruning", "run=sunny&tab=pruning&epoch=17&layer=enc_conv_10", 1420, "light"),
    (TRAINING, "tab=training", 1130, "light"),
    ("compare", f"run=bench/sauron_seed_0&tab=compare{ARMS}", 1120, "light"),
)


def main(runs: str, data: str, *names: str) -> None:
    """Serve the runs, and take every picture."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from sauron_viz.cli import main; main()", "serve", runs, "--allow-training", data]
    server = subprocess.Popen([*command, "--port", str(port), "--no-browser"])
    try:
        while server.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        with sync_playwright() as driver:
            path = os.environ.get("SAURON_CHROMIUM")
            browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
            for picture in PICTURES:
                if not names or picture[0] in names:
                    take(browser, f"http://127.0.0.1:{port}/", *picture)
            browser.close()
    finally:
        server.terminate()
        server.wait(30)


def take(browser: Any, url: str, name: str, query: str, height: int, scheme: str) -> None:
    """One picture."""
    page = browser.new_page(viewport={"width": 1280, "height": height}, color_scheme=scheme, device_scale_factor=1.25)
    page.goto(f"{url}?{query}")
    if name == TRAINING:
        train(page)
    else:
        page.wait_for_selector(CHART, timeout=90_000)
        page.wait_for_function("[...document.querySelectorAll('.sauron-chart')].every((card) => card.dataset.ready)")
    page.wait_for_timeout(1500)
    target = IMAGES / f"{name}.png"
    page.screenshot(path=target)
    if name == TRAINING:
        page.get_by_role("button", name="Stop: first").click()
        page.wait_for_selector(f"{JOB}[data-status=stopped]", timeout=90_000)
    page.close()
    Image.open(target).convert("RGB").save(target, optimize=True)
    print(f"{target.name}: {target.stat().st_size // 1024} kB")


def train(page: Any) -> None:
    """A training under way, and another that is being prepared."""
    for name in ("first", "wider"):
        page.get_by_label("Name of the run").fill(name)
        page.get_by_label("Recipe").select_option("phantom2d")
        page.get_by_label("Data set").select_option(index=0)
        if name == "first":
            page.get_by_role("button", name="Start training").click()
            page.wait_for_selector(f"{JOB} dt:text-is('Dice')", timeout=180_000)
            page.wait_for_function(f"parseInt(document.querySelector('{JOB} dd')?.textContent) > 2", timeout=180_000)
    page.get_by_label("Other keys").fill("network.init_filters=24")


if __name__ == "__main__":
    main(*sys.argv[1:])
