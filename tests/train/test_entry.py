"""Ctrl-C while Python still reads the packages."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

IMPORTING = "import signal\nprint('reading', flush=True)\nsignal.pause()\ndef main(): pass\n"
RUNNING = """
import signal
def main():
    try:
        print('running', flush=True)
        signal.pause()
    except KeyboardInterrupt:
        print('heard', flush=True)
"""


@pytest.mark.parametrize(
    ("source", "code", "says"), [(IMPORTING, 130, "stopped; nothing was written\n"), (RUNNING, 0, "heard\n")]
)
def test_ctrl_c_has_an_answer_from_the_first_import_on(tmp_path: Path, source: str, code: int, says: str) -> None:
    (tmp_path / "slow_command.py").write_text(source)
    program = [sys.executable, "-c", "from sauron_train.entry import begin; begin('slow_command')"]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, cwd=tmp_path, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == says
    assert process.returncode == code
