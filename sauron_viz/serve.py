"""Serves the notebooks as pages with Voila: on this machine only, offline, and without leaving kernels behind."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

from sauron_train.errors import SauronError
from sauron_viz.runs import ENVIRONMENT

HOST = "127.0.0.1"
PORT = 8866
_HERE = Path(__file__).parent
# Other extensions would be loaded into every page; one of them brings 5 MB that no view of ours uses.
_EXTENSIONS = ["@jupyter-widgets/jupyterlab-manager", "@voila-dashboards/widgets-manager8", "anywidget"]


class ServeError(SauronError):
    """The views cannot be served as asked."""


def views() -> dict[str, Path]:
    """The notebooks that show runs, by name; one that trains would do so at every visit, and is none of them."""
    paths = sorted((_HERE / "notebooks").glob("*.ipynb"))
    return {path.stem: path for path in paths if _is_view(path)}


def _is_view(path: Path) -> bool:
    metadata: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    return bool(metadata.get("sauron", {}).get("view", True))


def settings(port: int, open_browser: bool, preload: bool = True) -> dict[str, dict[str, object]]:
    """Voila's configuration, section by section.

    The check for a cross-site token is off because Voila's own message that a page was closed fails it, which leaves
    one kernel behind per visit; culling ends those whose page went without a word. Requests that name another host than
    this one are refused: a foreign page could otherwise have its own name resolve to here, and read along. Kernels
    speak over sockets in a folder of the user's own instead of ports that everybody on the machine can reach.
    """
    return {
        "Voila": {
            "ip": HOST,
            "port": port,
            "port_retries": 0,
            "open_browser": open_browser,
            # Voila would prefer the voila.json of the working directory to these settings, and run a voila.py there.
            "config_file_paths": [],
            # A socket's name may have about 100 characters, and a temporary folder of macOS alone has half of them.
            "connection_dir_root": "/tmp",
            "tornado_settings": {"disable_check_xsrf": True, "allow_remote_access": False},
            "log_level": "ERROR",
        },
        "VoilaConfiguration": {
            "template": "sauron",
            "extension_allowlist": _EXTENSIONS,
            "file_allowlist": ["$^"],
            "show_tracebacks": False,
            # One page is ready for the next visitor, who then waits for no import (see visit.py).
            "preheat_kernel": preload,
            "default_pool_size": 1,
        },
        "KernelManager": {"transport": "ipc"},
        "MappingKernelManager": {"cull_idle_timeout": 600, "cull_interval": 60, "cull_connected": False},
    }


def check(runs: Path, view: str, port: int) -> Path:
    """The notebook of a view, after looking whether it can be served.

    Raises:
        ServeError: no such folder, no such view, or a port that is taken.
    """
    if not runs.is_dir():
        raise ServeError(f"{runs.resolve()} is not a folder; give the folder that holds your runs, or one run")
    known = views()
    if view not in known:
        raise ServeError(f"there is no view {view!r}; choose one of {', '.join(known)}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise ServeError(f"port {port} {why}; choose another with --port") from None
    return known[view]


def application(notebook: Path, port: int, open_browser: bool, preload: bool = True) -> Any:
    """Voila, set up for a notebook but not started.

    Raises:
        ServeError: something made Voila listen beyond this machine.
    """
    # Voila takes two seconds to import: --help and mistakes should not wait for it.
    from traitlets.config import Config  # noqa: PLC0415

    from sauron_viz.server import Server  # noqa: PLC0415

    app = Server(config=Config(settings(port, open_browser, preload)))
    app.initialize([str(notebook)])
    if app.ip != HOST:
        raise ServeError(f"the server would listen on {app.ip!r} instead of {HOST}; remove the setting that says so")
    return app


def serve(runs: Path, view: str, port: int, open_browser: bool, preload: bool = True) -> None:
    """Serve a view of a folder of runs until interrupted.

    Raises:
        ServeError: see `check`.
    """
    notebook = check(runs, view, port)
    # Kernels inherit the environment: this is how the notebooks learn the folder.
    os.environ[ENVIRONMENT] = str(runs.resolve())
    # Linux would keep what large arrays leave in the process, where nothing else has use for it.
    for setting in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        os.environ.setdefault(setting, str(2**18))
    search = os.pathsep.join(filter(None, [str(_HERE / "templates"), os.environ.get("JUPYTER_PATH", "")]))
    os.environ["JUPYTER_PATH"] = search
    # jupyter_server gives its ping times in milliseconds, tornado warns because it expects seconds; both then work.
    logging.getLogger("tornado.general").setLevel(logging.ERROR)
    application(notebook, port, open_browser, preload).start()
