"""Prunes a trial that is worse than those before it, in whichever process it runs."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from sacred.utils import SacredInterrupt

from debias.errors import GivenUp
from debias.sweeps.searching.study import load_optuna, load_study
from debias.tracking.scalars import listening


class Pruned(GivenUp, SacredInterrupt):
    """The run's trial is pruned."""

    STATUS = "PRUNED"


@dataclass(frozen=True)
class SearchTrial:
    """The trial of a search that a run is, as plain data for another process.

    storage, study, trial : where the trial is: journal file or address of a database, name of the search, number
    metric : of the run, each epoch; the larger the better
    best : whether the search goes by the best epoch, not by the last
    rounds : how many epochs the run has; after the last there is nothing to prune
    pruner : kind, epochs that are always trained, most epochs of any trial
    """

    storage: str = field(repr=False)  # may have a password
    study: str
    trial: int
    metric: str
    best: bool
    rounds: int
    pruner: tuple[str, int, int]


@contextlib.contextmanager
def reporting_to(search_trial: SearchTrial | None) -> Iterator[None]:
    """Report the metric of the run inside, epoch by epoch, and end it when its trial is to be pruned.

    Raises
    ------
    Pruned
        From inside the run; also immediately, for a trial that was pruned before its process died.
    """
    if search_trial is None:
        yield
        return
    study = load_study(search_trial.storage, search_trial.study, search_trial.pruner)
    frozen = study.trials[search_trial.trial]
    if "pruned" in frozen.user_attrs:
        raise Pruned
    trial = load_optuna().trial.Trial(study, frozen._trial_id)
    # Of a worker that died; a stage that resumes from its checkpoint reports its first epochs again.
    known = set(frozen.intermediate_values)
    best = float("-inf")

    def told(name: str, value: float, epoch: int) -> None:
        nonlocal best
        if name != search_trial.metric:
            return
        best = max(best, value)
        if epoch not in known:
            trial.report(best if search_trial.best else value, epoch)
        if epoch < search_trial.rounds and trial.should_prune():
            trial.set_user_attr("pruned", epoch)
            raise Pruned

    with listening(told):
        yield
