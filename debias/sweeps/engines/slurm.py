"""Slurm, by submitit: every trial is a job. `cluster=local` has submitit start the jobs on this machine."""

import contextlib
import os
import pickle
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from debias.errors import UserError
from debias.sweeps.engines.worker import portable, run_job
from debias.sweeps.work import Assignment, Ending, Runner, run_trial
from debias.training.code import ROOT

INSTALL = "--engine slurm needs submitit: pip install 'submitit>=1.5,<2'"
# submitit's own default is minutes, which no run fits in.
DEFAULTS = {"timeout_min": 24 * 60, "name": "sweep"}
LOOK_EVERY = 0.5
# Until jobs on this machine that are told to stop have done so.
PATIENCE = 10


class Slurm:
    """Jobs of one trial each; what submitit writes about them is in `folder`.

    slots : how many are queued or running simultaneously
    parameters : of submitit's `update_parameters` (timeout_min, slurm_partition …), and `cluster`
    """

    def __init__(
        self, folder: Path, slots: int = 16, parameters: Mapping[str, Any] | None = None, run: Runner = run_trial
    ) -> None:
        self.slots = slots
        self._folder, self._run = folder.absolute(), run
        self._parameters = DEFAULTS | dict(parameters or {})
        self._cluster = self._parameters.pop("cluster", "slurm")
        if self._cluster not in ("slurm", "local"):
            raise UserError(f"--slurm cluster={self._cluster}: slurm or local")
        self._submitit = _submitit()
        if self._cluster == "slurm" and not shutil.which("sinfo"):
            raise UserError("--engine slurm: Slurm's commands are not here (sinfo); --slurm cluster=local tries it out")
        self._executor: Any = None
        self._jobs: list[tuple[Any, Assignment]] = []

    def submit(self, assignment: Assignment) -> None:
        """Put a job into the queue."""
        executor = self._start()
        # A job has the environment of the command that queues it. An address with a password stays out of the pickle.
        variables = {"DATA_DIR": os.environ.get("DATA_DIR")}
        packed = pickle.dumps((run_job, assignment, self._run, variables))
        try:
            with _silent() if self._cluster == "local" else contextlib.nullcontext():
                job = executor.submit(portable(), str(ROOT), str(Path.cwd()), packed)
        except self._submitit.core.utils.FailedJobError as error:
            raise UserError(f"--engine slurm: no job can be queued ({' '.join(str(error).split())})") from error
        self._jobs.append((job, assignment))

    def wait(self) -> tuple[Assignment, Ending]:
        """The next ending; submitit looks for a result each time, and asks Slurm about once a minute."""
        while True:
            for index, (job, assignment) in enumerate(self._jobs):
                if job.done():
                    del self._jobs[index]
                    return assignment, self._ending(job)
            time.sleep(LOOK_EVERY)

    def close(self) -> None:
        """Cancel the jobs that are left."""
        for job, _ in self._jobs:
            job.cancel(check=False)
        deadline = time.monotonic() + PATIENCE
        while self._cluster == "local" and not all(job.done() for job, _ in self._jobs) and time.monotonic() < deadline:
            time.sleep(0.1)
        self._jobs.clear()

    def _ending(self, job: Any) -> Ending:
        errors = self._submitit.core.utils
        try:
            if self._cluster == "local" and not job.paths.result_pickle.exists():
                # Elsewhere submitit waits for a slow file system to show it.
                raise errors.UncompletedJobError
            ending = job.result()
        except errors.FailedJobError as error:
            # The trace of an exception stands between two lines of dashes.
            trace = str(error).split("-" * 22)
            return Ending("failed", error=trace[min(1, len(trace) - 1)].strip().splitlines()[-1])
        except errors.UncompletedJobError:
            return Ending("lost", error=f"job {job.job_id}: {job.state.lower()}, see {job.paths.stderr}")
        return Ending("failed", error=ending) if isinstance(ending, str) else ending

    def _start(self) -> Any:
        if self._executor is None:
            # What is pickled in it may name an address with a password.
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            executor = self._submitit.AutoExecutor(self._folder, cluster=self._cluster)
            try:
                executor.update_parameters(**self._parameters)
            except (NameError, AssertionError, ValueError, TypeError) as error:
                raise UserError(
                    f"--slurm: {str(error).splitlines()[0]} (names are submitit's: timeout_min, slurm_qos)"
                ) from error
            self._executor = executor
        return self._executor


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What is started in here writes no errors to the terminal: the process that watches a local job."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UserError(INSTALL) from error
    return submitit
