"""Ray: on this machine or on a cluster, as many trials in parallel as fit into its processors and GPUs."""

import logging
import os
import pickle
import socket
from pathlib import Path
from typing import Any

from debias.errors import UserError
from debias.redaction import redact
from debias.sweeps.engines.worker import VARIABLES, portable, run_elsewhere
from debias.sweeps.work import Assignment, Ending, Runner, run_trial
from debias.training.code import ROOT

INSTALL = "--engine ray needs Ray: pip install 'ray>=2.60,<3'"
# Results are a few kilobytes, and Ray would take a third of the memory.
OBJECT_BYTES = 100 * 2**20
# Until runs that are told to stop have been recorded as interrupted.
PATIENCE = 10


class OnRay:
    """Each trial is a task of Ray, which starts a process for it or takes one that has run others.

    address : host:port of a cluster's head, or `auto`; None starts Ray on this machine, for this sweep alone
    cpus, gpus : what a trial takes; fractions share one. gpus=None: a whole one where the cluster has any
    run : makes a run of the words after `with`; a function of a module
    root : the folder of the code, on all machines
    """

    def __init__(
        self,
        address: str | None = None,
        cpus: float = 1,
        gpus: float | None = None,
        run: Runner = run_trial,
        root: Path = ROOT,
    ) -> None:
        self._address, self._cpus, self._gpus, self._run, self._root = address, cpus, gpus, run, root
        self._ray = _ray()
        self._task: Any = None
        self._running: dict[Any, Assignment] = {}

    @property
    def slots(self) -> int:
        """How many fit now: machines may come and go."""
        self._start()
        return max(1, self._fitting())

    def submit(self, assignment: Assignment) -> None:
        """Give it to Ray, which begins it where there is room."""
        self._start()
        variables = {name: os.environ.get(name) for name in VARIABLES}
        if not self._gpus:
            # Ray hides GPUs from no task, and a trial would take one that it has not asked for.
            variables["CUDA_VISIBLE_DEVICES"] = ""
        # As an argument: what is in a runtime environment, Ray shows to all who may look at the cluster.
        packed = pickle.dumps((run_elsewhere, assignment, self._run, variables))
        self._running[self._task.remote(str(self._root), str(Path.cwd()), packed)] = assignment

    def wait(self) -> tuple[Assignment, Ending]:
        """The next ending."""
        (done,), _ = self._ray.wait(list(self._running), num_returns=1)
        assignment = self._running.pop(done)
        errors = self._ray.exceptions
        try:
            ending = self._ray.get(done)
        except errors.RayTaskError as error:
            ending = " ".join(str(error.cause or error).split())
        except (errors.TaskUnschedulableError, errors.RuntimeEnvSetupError) as error:
            ending = _line(error)
        except errors.RayError as error:
            # The process, its machine, Ray's own process on it, or the memory there.
            return assignment, Ending("lost", error=_line(error))
        return assignment, Ending("failed", error=ending) if isinstance(ending, str) else ending

    def close(self) -> None:
        """Interrupt what is running, and leave the cluster, or stop Ray on this machine."""
        if self._task is None:
            return
        for task in self._running:
            self._ray.cancel(task)
        if self._running:
            self._ray.wait(list(self._running), num_returns=len(self._running), timeout=PATIENCE)
        self._running.clear()
        self._ray.shutdown()
        self._task = None

    def _start(self) -> None:
        """Not before there is a trial: it takes seconds, and a finished sweep needs no cluster."""
        if self._task is not None:
            return
        own: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        own |= {"object_store_memory": OBJECT_BYTES}
        try:
            if self._address not in (None, "auto"):
                self._reach(self._address)
            self._ray.init(
                self._address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **({} if self._address else own),
            )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            where = f"--address {self._address}" if self._address else "--engine ray"
            raise UserError(f"{where}: Ray cannot be used ({_line(error)})") from error
        nodes = self._nodes()
        if self._gpus is None:
            self._gpus = float(any(node.get("GPU", 0) >= 1 for node in nodes))
        remote = self._ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0)
        self._task = remote(portable())
        if not self._fitting():
            most = ", ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
            self.close()
            raise UserError(
                f"--cpus {self._cpus:g} --gpus {self._gpus:g}: no machine has so many; CPUs and GPUs are: {most}"
            )

    def _reach(self, address: str) -> None:
        """Raise OSError when nobody listens there; Ray itself goes on trying for ever."""
        host, _, port = address.rpartition(":")
        if host in ("localhost", "127.0.0.1"):
            # Ray takes these for the machine's own address.
            host = self._ray.util.get_node_ip_address()
        socket.create_connection((host, int(port)), timeout=10).close()

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _fitting(self) -> int:
        wanted = {name: amount for name, amount in (("CPU", self._cpus), ("GPU", self._gpus)) if amount}
        # Ray counts in ten-thousandths; ten times 0.1 is one here too.
        return sum(
            min(int(node.get(name, 0) / amount + 1e-6) for name, amount in wanted.items()) for node in self._nodes()
        )


def _ray() -> Any:
    # Read when Ray is imported: nothing about a sweep is reported to anyone.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UserError(INSTALL) from error
    return ray


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return redact(f"{type(error).__name__}: {lines[0]}"[:300])
