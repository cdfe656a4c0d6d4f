"""What a study holds: its trials by how they ended, what it goes by, what mattered. Imports nothing heavy."""

from collections import Counter
from typing import Any

from debias.sweeps.searching.study import is_oracle, load_optuna

# Fewer trials say little about what mattered.
LEAST_TRIALS = 10


def finished(study: Any) -> list[Any]:
    """The trials that have a value, in order."""
    return list(study.get_trials(deepcopy=False, states=(load_optuna().trial.TrialState.COMPLETE,)))


def given_up(study: Any) -> list[Any]:
    """The trials that were not worth continuing, in order."""
    return list(study.get_trials(deepcopy=False, states=(load_optuna().trial.TrialState.PRUNED,)))


def counts_of(study: Any) -> dict[str, int]:
    """How many trials ended in which way."""
    words = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
    counts = Counter(trial.state.name for trial in study.get_trials(deepcopy=False))
    return {word: counts[state] for state, word in words.items()}


def objective_name(study: Any) -> str:
    """What the search goes by; searches of older versions do not say it."""
    return str(study.user_attrs.get("objective", "objective"))


def importances(study: Any) -> dict[str, float]:
    """The share of each setting in how far trials differ, largest first; nothing where trials are few or all equal."""
    done = finished(study)
    if len(done) < LEAST_TRIALS or len({trial.value for trial in done}) < 2:
        return {}
    made = load_optuna().importance
    # Not Optuna's default, which compares the best tenth with the rest: of a few trials that is one.
    return dict(made.get_param_importances(study, evaluator=made.FanovaImportanceEvaluator(seed=0)))


def goes_by_test_set(study: Any) -> bool:
    """Whether the settings are chosen on test images."""
    return "objective" in study.user_attrs and is_oracle(objective_name(study))
