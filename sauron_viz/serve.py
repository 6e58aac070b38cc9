"""Serves the notebooks as pages with Voila: offline, to who may come in, and without leaving kernels behind."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from sauron_train.imports import INTERNATIONAL_ADDRESSES, as_if_missing
from sauron_viz.access import HOST, TOKEN, Access, ServeError, free
from sauron_viz.limits import MEMORY
from sauron_viz.runs import ENVIRONMENT

PORT = 8866
# How long a kernel without a page is kept: a laptop that slept comes back to its own. Less where no page ever came.
IDLE_S, UNSEEN_S = 600, 120
LOOK_EVERY_S = 60
# How long the server may take over what a page's cell has made, once the cell has run: with many visitors long.
_OUTPUTS_S = 120
# A socket's name may have about 100 characters, and a temporary folder of macOS alone has half of them.
_SOCKETS = "/tmp"
LOCAL = Access()
_HERE = Path(__file__).parent
# Other extensions would be loaded into every page; one of them brings 5 MB that no view of ours uses.
_EXTENSIONS = ["@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8", "anywidget"]


def views() -> dict[str, Path]:
    """The notebooks that show runs, by name; one that trains would do so at every visit, and is none of them."""
    paths = sorted((_HERE / "notebooks").glob("*.ipynb"))
    return {path.stem: path for path in paths if _is_view(path)}


def _is_view(path: Path) -> bool:
    metadata: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    return bool(metadata.get("sauron", {}).get("view", True))


def settings(
    port: int, open_browser: bool, preload: bool = True, access: Access = LOCAL
) -> dict[str, dict[str, object]]:
    """Voila's configuration, section by section.

    The check for a cross-site token is off because Voila's own message that a page was closed fails it, which leaves
    one kernel behind per visit (the gate looks where requests come from instead); culling ends those whose page went
    without a word. A kernel that dies is not started again: it would be an empty one. Without a token, requests that
    name another host than this one are refused: a foreign page could otherwise have its own name resolve to here, and
    read along. Kernels speak over sockets in a folder of the user's own instead of ports that everybody on the machine
    can reach.
    """
    return {
        "Voila": {
            "ip": access.host,
            "base_url": access.base_url,
            "port": port,
            "port_retries": 0,
            "open_browser": open_browser,
            # Voila would prefer the voila.json of the working directory to these settings, and run a voila.py there.
            "config_file_paths": [],
            "connection_dir_root": _SOCKETS,
            "tornado_settings": {"disable_check_xsrf": True, "allow_remote_access": bool(access.token)},
            "identity_provider_class": "sauron_viz.server.Visitors",
            "log_level": "ERROR",
        },
        "VoilaConfiguration": {
            "template": "sauron",
            "extension_allowlist": _EXTENSIONS,
            "file_allowlist": ["$^"],
            "show_tracebacks": False,
            "multi_kernel_manager_class": "sauron_viz.server.Kernels",
            # One page is ready for the next visitor, who then waits for no import (see visit.py).
            "preheat_kernel": preload,
            "default_pool_size": 1,
        },
        # Voila gives up after four seconds, and shows an empty page for good.
        "VoilaExecutor": {
            "iopub_timeout": _OUTPUTS_S,
            "raise_on_iopub_timeout": True,
            "cell_timeout_instruction": "The server has too much to do; reload the page in a while.",
        },
        "KernelManager": {"transport": "ipc"},
        "KernelRestarter": {"restart_limit": 0},
        "MappingKernelManager": {
            "cull_idle_timeout": IDLE_S,
            "cull_interval": LOOK_EVERY_S,
            "cull_connected": False,
            "unseen_timeout": UNSEEN_S,
            "refill_delay": LOOK_EVERY_S,
        },
    }


def check(runs: Path, view: str, port: int, host: str = HOST) -> Path:
    """The notebook of a view, after looking whether it can be served.

    Raises:
        ServeError: no such folder, no such view, a port that is taken, or no place for sockets.
    """
    if not runs.is_dir():
        raise ServeError(f"{runs.resolve()} is not a folder; give the folder that holds your runs, or one run")
    known = views()
    if view not in known:
        raise ServeError(f"there is no view {view!r}; choose one of {', '.join(known)}")
    if not os.access(_SOCKETS, os.W_OK | os.X_OK):
        raise ServeError(f"{_SOCKETS} cannot be written, but the server needs a place for its sockets there")
    free(host, port)
    return known[view]


def application(notebook: Path, port: int, open_browser: bool, preload: bool = True, access: Access = LOCAL) -> Any:
    """Voila, set up for a notebook but not started.

    Raises:
        ServeError: something made Voila listen elsewhere than it was told to.
    """
    # Voila takes a second to import: --help and mistakes should not wait for it.
    from traitlets.config import Config  # noqa: PLC0415

    with as_if_missing(INTERNATIONAL_ADDRESSES):
        from sauron_viz.server import Server  # noqa: PLC0415

    app = Server(config=Config(settings(port, open_browser, preload, access)))
    app.access = access
    app.initialize([str(notebook)])
    if app.ip != access.host:
        raise ServeError(
            f"the server would listen on {app.ip!r} instead of {access.host}; remove the setting that says so"
        )
    return app


def serve(
    runs: Path,
    view: str,
    port: int,
    open_browser: bool,
    preload: bool = True,
    access: Access = LOCAL,
    page_memory: int = 0,
) -> None:
    """Serve a view of a folder of runs until interrupted; a page may take `page_memory` bytes, 0 = as much as it likes.

    Raises:
        ServeError: see `check`.
    """
    notebook = check(runs, view, port, access.host)
    # Kernels inherit the environment: this is how the notebooks learn the folder. The token is none of their business.
    os.environ[ENVIRONMENT] = str(runs.resolve())
    os.environ.pop(TOKEN, None)
    os.environ[MEMORY] = str(page_memory) if page_memory else ""
    # Linux would keep what large arrays leave in the process, where nothing else has use for it.
    for setting in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        os.environ.setdefault(setting, str(2**18))
    search = os.pathsep.join(filter(None, [str(_HERE / "templates"), os.environ.get("JUPYTER_PATH", "")]))
    os.environ["JUPYTER_PATH"] = search
    # jupyter_server gives its ping times in milliseconds, tornado warns because it expects seconds; both then work.
    logging.getLogger("tornado.general").setLevel(logging.ERROR)
    application(notebook, port, open_browser, preload, access).start()
