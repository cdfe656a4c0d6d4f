"""Several runs trained together: their data are loaded in parallel, as much as memory takes, then come their stages."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from debias.data.mapped import SHARE, free_memory
from debias.data.split import Task
from debias.tracking.overview import check_bias_labels
from debias.training.replicas import run_replicas
from debias.training.stage import Settings, Stage
from debias.training.store import Store

Load = Callable[[Settings], Task]
Free = Callable[[torch.device], int]


def train_runs(
    stages: Sequence[Stage],
    every: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    device: torch.device,
    store: Store,
    load: Load,
    say: Callable[[str], None],
    *,
    free: Free = free_memory,
    train: Callable[..., list[Exception | None]] = run_replicas,
) -> list[Exception | None]:
    """Have all stages of runs in the store, trained together; in several parts where their data do not fit together.

    Parameters
    ----------
    stages, device, store, say
        As of `training.walk.run_stages`.
    every, names
        Settings of each run, and what lines call it.
    load
        Makes the data of a run.
    free
        Bytes that are free on a device, or beside it.
    train
        Trains runs whose data fit together; as `training.replicas.run_replicas`.

    Returns
    -------
    What went wrong with each run, None where nothing did; it does not stop the others.
    """
    failures: list[Exception | None] = []
    rest = list(range(len(every)))
    loaded = list(_loaded([every[0]], load))
    most = at_most(loaded[0], device, free) if isinstance(loaded[0], Task) else len(every)
    parts = -(-len(every) // most)
    if parts > 1:
        say(f"memory is short: {len(every)} runs are trained in {parts} parts")
    while rest:
        size = -(-len(rest) // parts)
        part, rest, parts = rest[:size], rest[size:], parts - 1
        loaded += _loaded([every[number] for number in part[len(loaded) :]], load)
        runs = [(every[number], names[number]) for number in part]
        failures += _train(runs, loaded, stages, device, store, say, train)
        loaded.clear()
    return failures


def _train(
    runs: Sequence[tuple[Mapping[str, Any], str]],
    loaded: Sequence[Task | Exception],
    stages: Sequence[Stage],
    device: torch.device,
    store: Store,
    say: Callable[[str], None],
    train: Callable[..., list[Exception | None]],
) -> list[Exception | None]:
    """Train those whose data could be loaded."""
    failures: list[Exception | None] = [None] * len(runs)
    chosen: dict[tuple[int, str], int] = {}
    for number, ((own, name), task) in enumerate(zip(runs, loaded, strict=True)):
        try:
            if isinstance(task, Exception):
                raise task
            check_bias_labels(task, stages, own["method"])
        except Exception as error:  # whatever it is, the others continue
            failures[number] = error
            say(f"{name}: {error}")
        else:
            # Equal data and seed are one training: a setting that this data set does not have tells them apart.
            chosen.setdefault((own["seed"], task.key), number)
    # In one order for all processes: where two have stages in common, neither waits for the other.
    places = [chosen[what] for what in sorted(chosen)]
    found = train(
        stages,
        [task for number in places if isinstance(task := loaded[number], Task)],
        [runs[number][0] for number in places],
        device,
        store,
        say=say,
        progress=runs[0][0]["progress"],
        names=[runs[number][1] for number in places],
    )
    for number, failure in zip(places, found, strict=True):
        failures[number] = failure
    return failures


def _loaded(every: Sequence[Settings], load: Load) -> Iterator[Task | Exception]:
    """The data of each run, or why there are none: several at a time, one on each core."""
    threads = torch.get_num_threads()
    workers = max(1, min(len(every), len(os.sched_getaffinity(0))))
    if workers == 1:
        yield from (_one(own, load) for own in every)
        return
    # Threads do: building and reading are operations of torch and NumPy, which leave the interpreter to the others.
    pool = ThreadPoolExecutor(workers, "load", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(lambda own: _one(own, load), every)
    finally:
        # Where this is an interruption, what has not been begun is left.
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _one(own: Settings, load: Load) -> Task | Exception:
    try:
        return load(own)
    except Exception as error:
        return error


def at_most(task: Task, device: torch.device, free: Free = free_memory) -> int:
    """How many runs with data like these fit into half of the memory that is free, on the device and beside it."""
    extra = [split for split in (task.valid, *task.extra_tests.values()) if split is not None]
    sizes = [_nbytes(split.images) for split in (task.train, task.test, *extra)]
    fit = [SHARE * free(torch.device("cpu")) / max(1, sum(sizes))]
    if device.type == "cuda":
        # Training images are there twice: by themselves, and side by side with those of the other runs.
        fit.append(SHARE * free(device) / max(1, sum(sizes) + sizes[0]))
    return max(1, int(min(fit)))


def _nbytes(images: object) -> int:
    """Bytes in memory; what is streamed from the cache takes none."""
    return images.nbytes if isinstance(images, Tensor) else 0
