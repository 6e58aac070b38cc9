"""A served page may be prepared before anyone asks for it: imports are done by then, runs are read for the visitor."""

from __future__ import annotations

import importlib
import json
import os
import socket
from urllib.parse import urlsplit

from sauron_viz.limits import limit_memory

# Set by the server: its address for processes on this machine, and what opens it to its own kernels.
SERVER, KEY = "SAURON_SERVER", "SAURON_SERVER_KEY"
_PREPARED = "VOILA_PREHEAT"
_SLOW = ("scipy.cluster.hierarchy",)


def wait_for_visitor() -> str:
    """The query of the page's address; in a page that is being prepared, only returns once somebody opens it.

    A waiting kernel counts as busy, so it is not ended for idleness. Voila's own `wait_for_request` does the same, but
    its import takes three seconds, which a visitor who comes first would have to sit out.
    """
    limit_memory()
    if os.environ.get(_PREPARED) == "True":
        # Training imports these when it needs them, a page always does.
        for module in _SLOW:
            importlib.import_module(module)
        from websockets.sync.client import connect  # noqa: PLC0415

        address = f"{os.environ[SERVER]}voila/query/{os.environ['VOILA_KERNEL_ID']}"
        # A socket of our own, because a proxy in the environment is meant for other machines.
        line = socket.create_connection((urlsplit(address).hostname, urlsplit(address).port))
        with connect(address, sock=line, additional_headers={"Authorization": f"Bearer {os.environ[KEY]}"}) as asked:
            os.environ.update({key: str(value) for key, value in json.loads(asked.recv()).items()})
        os.environ[_PREPARED] = "False"
    return os.environ.get("QUERY_STRING", "")
