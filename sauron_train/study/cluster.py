"""Runs of a study as jobs of a cluster, by submitit: Slurm, or its local executor to try it out.

One run is one job. A job that is pre-empted, or comes near its time limit, stops its training, is queued again and then
goes on with it. submitit keeps a job's description and result as pickles in the study's folder `jobs`, outside of all
run folders; nothing here reads them.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from sauron_train.errors import ConfigError
from sauron_train.runlog.files import write_json
from sauron_train.study.schedule import Handle
from sauron_train.study.work import Work, deaf_to, state

if TYPE_CHECKING:
    import submitit

ExecutorName = Literal["slurm", "local"]

JOBS = "jobs"
_MOST_REQUEUES = 1000
_UNTIL_KILLED_S = 60.0
_POLL_S = 0.1
_PREEMPTED_WITHIN_S = 90.0
_LONG_MIN = 60 * 24 * 30


class Job:
    """What a job does: it brings one run to its end. submitit calls `checkpoint` when the job is to make room.

    Args:
        work: the run.
        record: file that says which submission is the run's.
        token: of this submission.
    """

    def __init__(self, work: Work, record: Path, token: str) -> None:
        self.work, self.record, self.token = work, record, token
        self._process: subprocess.Popen[bytes] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"work": self.work, "record": self.record, "token": self.token, "_process": None}

    def __call__(self) -> str:
        """Train, or go on; then score.

        Returns:
            "done"; "given up" where another job was submitted for the same run since.

        Raises:
            RuntimeError: a command failed; the log says why.
        """
        before = None
        # Nobody else has this job's run, so one that says it is training was left by a machine that died.
        while (words := self.work.next_words(force=True)) is not None:
            if _record(self.record).get("token", self.token) != self.token:
                return "given up"
            if words == before:
                raise RuntimeError(self.work.last_words())
            before = words
            self._process = self.work.start(words, _surroundings())
            code = _wait(self._process)
            if code in (128 + signal.SIGTERM, 128 + signal.SIGINT):
                # It was told to stop before this process was told why: that comes in a moment.
                time.sleep(_PREEMPTED_WITHIN_S)
            if code:
                raise RuntimeError(self.work.last_words())
        return "done"

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Stop training, its whole epochs kept, and ask for the same job again."""
        import submitit  # noqa: PLC0415

        if self._process is not None:
            self._process.terminate()
            if _wait(self._process, _UNTIL_KILLED_S) is None:
                self._process.kill()
        return submitit.helpers.DelayedSubmission(Job(self.work, self.record, self.token))

    # What later versions of submitit call it.
    __submitit_checkpoint__ = checkpoint


class Cluster:
    """Submits a job for each run.

    Args:
        folder: of the study.
        executor: slurm, or local: submitit's own processes on this machine.
        parameters: what jobs ask for, in the words of submitit's AutoExecutor.
        jobs: how many may be submitted at a time; None = all.

    Raises:
        ConfigError: submitit or Slurm is not here, or a parameter is not known.
    """

    def __init__(self, folder: Path, executor: ExecutorName, parameters: dict[str, Any], jobs: int | None) -> None:
        self.jobs = jobs
        self._folder, self._name, self._parameters = folder / JOBS, executor, parameters
        self._submitit = _import()
        # An executor makes its folder, and the study's is made only when nothing speaks against it any more.
        with tempfile.TemporaryDirectory() as elsewhere:
            self._make(Path(elsewhere))
        self._executor: Any = None

    def start(self, work: Work) -> Handle:
        """Submit a run, or watch the job that it has already."""
        record = self._folder / f"{work.folder.name}.json"
        known = _record(record)
        if known.get("executor") == self._name and known.get("job") and self._alive(known["job"]):
            return _Submitted(work, self._job(known["job"]), partial(self._alive, known["job"]))
        if state(work.folder) == "running":
            raise ConfigError(
                f"run {work.folder.name} is training on this machine, outside of any job; wait until it is done, or "
                "stop it"
            )
        self._executor = self._executor or self._make(self._folder)
        self._executor.update_parameters(name=work.folder.name)
        # Its token is written down first: a study that is killed before it knows the job's number submits the run once
        # more, and the first job gives up when its turn comes.
        written = {"executor": self._name, "token": uuid.uuid4().hex}
        write_json(record, written)
        with deaf_to(signal.SIGINT):
            # A job on this machine would otherwise end by the Ctrl-C that is meant for who watches it.
            job = self._executor.submit(Job(work, record, written["token"]))
        write_json(record, written | {"job": job.job_id})
        return _Submitted(work, job, lambda: not job.done())

    def leave(self, handles: Sequence[Handle]) -> str:
        """Jobs go on without us."""
        if not handles:
            return "stopped; nothing runs any more"
        end = " (`scancel` ends one)" if self._name == "slurm" else ""
        return f"stopped watching; {len(handles)} jobs go on{end}, and the same command watches them again"

    def _make(self, folder: Path) -> Any:
        wanted = {"timeout_min": _LONG_MIN, **self._parameters} if self._name == "local" else self._parameters
        if not {"timeout_min", "slurm_time"} & wanted.keys():
            raise ConfigError("say how long a job may take at a time, in minutes, as in --slurm timeout_min=1440")
        for key in ("nodes", "tasks_per_node"):
            if wanted.get(key, 1) != 1:
                raise ConfigError(f"--slurm {key}={wanted[key]}: a run is one process, so {key} must be 1")
        try:
            executor = self._submitit.AutoExecutor(
                folder / "%j", cluster=self._name, **{f"{self._name}_max_num_timeout": _MOST_REQUEUES}
            )
            executor.update_parameters(**wanted)
        except RuntimeError:
            raise ConfigError(
                "there is no Slurm on this machine (srun is not found); start the study where jobs are submitted, or "
                "leave --slurm out and use --jobs"
            ) from None
        except (NameError, AssertionError, ValueError, TypeError) as error:
            raise ConfigError(f"--slurm: {' '.join(str(error).split())}") from None
        return executor

    def _job(self, number: str) -> Any:
        kind = self._submitit.SlurmJob if self._name == "slurm" else self._submitit.LocalJob
        return kind(self._folder / "%j", number)

    def _alive(self, number: str) -> bool:
        if self._name == "slurm":
            return not self._job(number).done()
        # Its number is that of the process that looks after it, which after a restart may be any other.
        return "submitit" in _command_of(number)


class _Submitted(Handle):
    """A job; what was submitted by another process than this one tells by itself less of how it stands."""

    def __init__(self, work: Work, job: submitit.Job[str], alive: Callable[[], bool]) -> None:
        self._work, self._job, self._alive = work, job, alive

    def ended(self) -> bool:
        return not self._alive()

    @property
    def problem(self) -> str:
        if self._work.next_words(force=True) is None:
            return ""
        return f"{self._work.last_words()} (job {self._job.job_id}, whose own log is in {self._job.paths.folder})"


def job_parameters(assignments: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` with values as YAML.

    Raises:
        ConfigError: not of that form.
    """
    found = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--slurm {assignment!r} must have the form KEY=VALUE, such as timeout_min=1440")
        try:
            found[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"--slurm {assignment!r}: the value is not valid YAML") from None
    return found


def _import() -> Any:
    try:
        import submitit  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "jobs are submitted by submitit, which is not installed; get it with: pip install 'sauron-unet[cluster]'"
        ) from None
    return submitit


def _record(file: Path) -> dict[str, str]:
    """What is known of the last submission: executor, token and, once it has one, the job's number."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: str(value) for key, value in values.items()} if isinstance(values, dict) else {}


def _command_of(number: str) -> str:
    """By which command a process of this machine was started, "" where there is none of that number."""
    with contextlib.suppress(OSError):
        if Path("/proc/self/cmdline").exists():
            return Path("/proc", number, "cmdline").read_bytes().decode(errors="replace")
        asked = subprocess.run(["ps", "-o", "args=", "-p", number], capture_output=True, text=True, check=False)
        return asked.stdout
    return ""


def _wait(process: subprocess.Popen[bytes], seconds: float = math.inf) -> int | None:
    """The exit code of a process; None if it has not ended in that time.

    A signal that comes while `Popen.wait` waits finds it holding a lock, so that the handler could not wait in turn.
    """
    end = time.monotonic() + seconds
    while (code := process.poll()) is None and time.monotonic() < end:
        time.sleep(_POLL_S)
    return code


def _surroundings() -> dict[str, str]:
    cores = os.environ.get("SLURM_CPUS_PER_TASK")
    return {**({"OMP_NUM_THREADS": cores} if cores else {}), **os.environ}
