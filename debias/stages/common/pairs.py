"""What stages that train two networks have in common: the states of the one that is kept."""

from debias.training.artifacts import State
from debias.training.job import Fitted


def states_of(fitted: Fitted, name: str) -> dict[str, State]:
    """Weights by selection of one of the networks of a `ModuleDict`, under that network's own names."""
    own = f"{name}."
    return {
        selection: {key.removeprefix(own): value for key, value in state.items() if key.startswith(own)}
        for selection, state in fitted.states().items()
    }
