"""What all tests share: one thread, and a pipeline on 600 embedded digits, which need no download."""

from debias.starting import loaded

import contextlib
import gc
import inspect
import itertools
import json
import multiprocessing
import os
import signal
import sys
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from functools import wraps
from itertools import count
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import sacred
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sacred.arg_parser import get_config_updates

from debias import main
from debias.config import DebiasExperiment, build_experiment, resolve
from debias.data.loading import load_task
from debias.data.split import Task
from debias.stages.recipes import stages_of
from debias.training.stage import Together
from debias.training.store import Store
from debias.training.walk import Outcome, Walk
from tests import scheduling
from tests.pipeline import TINY, empty_pictures

# In the order in which they are loaded.
PRELOADED = [
    "debias.main", "tests.warm", "tests.pipeline", "tests.killing",
    "debias.sweeps.engines.worker", "debias.sweeps.engines.quiet",
]  # fmt: skip
# Frames that are told of where a call comes from.
INNERMOST = 4


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return scheduling.scheduler(config, log)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Where tests run in several processes, each starts the one that others of its own are forked from, here and now.

    Started by whichever test comes first, it would import nothing of the project if that test stands in another folder,
    and each process after it would import torch: seconds for every kill.
    """
    if hasattr(session.config, "workerinput"):
        multiprocessing.set_forkserver_preload(PRELOADED)
        with contextlib.chdir(session.config.rootpath):
            forkserver.ensure_running()


def pytest_collection_finish() -> None:
    """What is loaded stays: no collection of garbage goes through torch's modules again, a third of a second each."""
    loaded()
    gc.set_threshold(5000, 20, 20)


def pytest_sessionfinish() -> None:
    gc.unfreeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        scheduling.longest_first(items)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def _shallow_stacks() -> Iterator[None]:
    """Sacred and torch's tracing ask where they are called from, with the source of each frame: a twelfth of all time.

    Below pytest that is a hundred frames; here the innermost few.
    """

    def stack(context: int = 1) -> list[inspect.FrameInfo]:
        frames = [frame for frame, _ in itertools.islice(traceback.walk_stack(sys._getframe(1)), INNERMOST)]
        infos = [inspect.getframeinfo(frame, context=0) for frame in frames]
        return [inspect.FrameInfo(frame, *info) for frame, info in zip(frames, infos, strict=True)]

    def extract_stack(f: FrameType | None = None, limit: int | None = None) -> traceback.StackSummary:
        innermost = traceback.walk_stack(sys._getframe(1) if f is None else f)
        frames = itertools.islice(innermost, min(INNERMOST, limit or INNERMOST))
        return traceback.StackSummary.from_list(
            [traceback.FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name, lookup_line=False)
             for frame, line in frames][::-1]
        )  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect, "stack", stack)
        patch.setattr(traceback, "extract_stack", extract_stack)
        yield


@pytest.fixture(scope="session", autouse=True)
def _quiet_host_info() -> Iterator[None]:
    """Sacred does not ask the machine's programs about its CPU and GPU: a third of what a configuration takes."""
    info = sacred.SETTINGS.HOST_INFO
    before = info.INCLUDE_CPU_INFO, info.INCLUDE_GPU_INFO
    info.INCLUDE_CPU_INFO = info.INCLUDE_GPU_INFO = False
    yield
    info.INCLUDE_CPU_INFO, info.INCLUDE_GPU_INFO = before


@pytest.fixture(scope="session", autouse=True)
def _no_power_cuts() -> Iterator[None]:
    """Files are not forced onto the disk: what that is for, the loss of power, no test can cause."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(autouse=True)
def _empty_pictures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Pictures of runs stay empty but for a test that asks for `canvases`."""
    with contextlib.nullcontext() if "canvases" in request.fixturenames else empty_pictures():
        yield


@pytest.fixture(scope="session")
def cache_dir(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of built data sets that outlives the session: the digits take some ten seconds to make."""
    cache = getattr(pytestconfig, "cache", None)
    return tmp_path_factory.mktemp("cache") if cache is None else cache.mkdir("debias")


@pytest.fixture(scope="session")
def experiment() -> DebiasExperiment:
    return build_experiment()


@pytest.fixture(scope="session")
def configured(experiment: DebiasExperiment) -> Callable[..., dict[str, Any]]:
    """Words as after `with` -> the configuration that a run of them would have; nothing is run."""

    def configure(*words: str) -> dict[str, Any]:
        updates, named = get_config_updates(list(words))
        run = experiment._create_run("print_config", updates, named, None, None, {"--unobserved": True})
        return dict(run.config)

    return configure


@pytest.fixture(scope="session")
def tiny(configured: Callable[..., dict[str, Any]], cache_dir: Path) -> Callable[..., dict[str, Any]]:
    """Words as after `with` -> checked settings on the tiny data set."""
    return lambda *words: resolve(configured(*TINY, f"cache_dir={cache_dir}", *words))


@pytest.fixture(scope="session")
def task(tiny: Callable[..., dict[str, Any]]) -> Task:
    """The tiny data set under its default settings, a fifth of it held out."""
    return load_task(tiny("valid_fraction=0.2"))


@pytest.fixture
def run_tiny(tiny: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Outcome]:
    """Run stages without Sacred: run_tiny("erm", "pretrain.epochs=2", task=..., store=...).

    `together` takes the place of the loop: its `fit` is given what each stage asks of the loop.
    """

    def run(
        *words: str, last: str | None = None, task: Task | None = None, store: Path | None = None,
        together: Together | None = None, **also: Any,
    ) -> Outcome:  # fmt: skip
        settings = tiny(*words)
        also.setdefault("say", lambda line: None)
        stages = stages_of(settings["method"], last, settings["dataset"])
        walk = Walk(
            stages,
            load_task(settings) if task is None else task,
            settings,
            torch.device("cpu"),
            Store(store or tmp_path / "stages"),
            progress=False,
            together=together,
            **also,
        )
        for stage in stages:
            walk.advance(stage)
        return walk.outcome

    return run


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Processes that start from one in which torch is imported and no training has begun, as autograd wants it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


@pytest.fixture
def child(processes: ForkServerContext, tmp_path: Path) -> Callable[..., list[str]]:
    """child(function, arguments, store, die_at) -> exit status and events of a process that may be killed at one."""
    number = count()

    def run(function: Callable[..., None], arguments: list[str], store: Path, die_at: str = "") -> list[str]:
        record, output = (tmp_path / f"{what}-{next(number)}.txt" for what in ("events", "output"))
        process = processes.Process(
            target=function, args=(arguments, str(store), str(output), str(record), die_at), daemon=True
        )
        process.start()
        process.join(300)
        wanted = (-signal.SIGKILL,) if die_at else (0,)
        assert process.exitcode in wanted, f"{die_at}: {process.exitcode} {output.read_text()}"
        return record.read_text().splitlines()

    return run


@pytest.fixture
def command(cache_dir: Path, tmp_path: Path) -> Callable[..., int]:
    """A command line on the tiny data set, in this process; gives the exit status."""

    def run(*words: str, name: str | None = None, store: Path | None = None) -> int:
        before = [] if name is None else [name]
        # Own images have no skew to choose.
        tiny = [word for word in TINY if not ("dataset=own_images" in words and word.startswith("skew="))]
        return main.main(
            [*before, "with", *tiny, f"cache_dir={cache_dir}", f"store={store or tmp_path / 'runs'}", *words]
        )

    return run


@pytest.fixture
def no_network() -> Iterator[None]:
    """Downloads are refused simultaneously: they are sent to a port of this machine on which nobody listens."""
    nobody = urllib.request.ProxyHandler(dict.fromkeys(("http", "https"), "http://127.0.0.1:9"))
    urllib.request.install_opener(urllib.request.build_opener(nobody))
    yield
    urllib.request.install_opener(None)  # type: ignore[arg-type]


@pytest.fixture
def canvases(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn into files, in order."""
    drawn: list[Figure] = []
    draw = FigureCanvasAgg.print_png

    @wraps(draw)
    def print_png(canvas: FigureCanvasAgg, target: Any, *args: Any, **options: Any) -> None:
        if isinstance(target, str | Path):
            drawn.append(canvas.figure)
        draw(canvas, target, *args, **options)

    monkeypatch.setattr(FigureCanvasAgg, "print_png", print_png)
    return drawn


@pytest.fixture
def add_run(tmp_path: Path) -> Callable[..., Path]:
    """add_run("erm", unbiased=50.0) writes a run folder into tmp_path, numbered from 1."""

    def add_run(
        method: str | list[str], *, status: str = "COMPLETED", command: str = "train", read_out: str = "model",
        config: dict[str, Any] | None = None, started: str | None = None, info: dict[str, Any] | None = None,
        **figures: float,
    ) -> Path:  # fmt: skip
        number = 1 + len([path for path in tmp_path.iterdir() if path.name.isdigit()])
        folder = tmp_path / str(number)
        folder.mkdir()
        settings = {"dataset": "colored_digits", "method": method, "skew": 0.01, "seed": 3} | (config or {})
        run = {
            "command": command,
            "status": status,
            "start_time": started or f"2026-01-01T{number // 60:02}:{number % 60:02}:00.000001",
        }
        summary = {f"{read_out}/{name}/last": value for name, value in figures.items()}
        info = {"summary": summary} | (info or {})
        for name, content in (("run", run), ("config", settings), ("info", info)):
            (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        return folder

    return add_run
