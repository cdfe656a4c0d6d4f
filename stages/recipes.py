"""The recipes: which stages make up a method. A new method is its files and a line here."""

from collections.abc import Sequence
from dataclasses import dataclass

from errors import UserError
from settings import nearest
from stages.base import Stage
from stages.branches import BranchesStage
from stages.distill import Distill
from stages.pretrain import Pretrain

STAGES: dict[str, Stage] = {stage.name: stage for stage in (BranchesStage(), Distill(), Pretrain())}


@dataclass(frozen=True)
class Recipe:
    """A method: the names of its stages in order, and what it is in one line."""

    stages: tuple[str, ...]
    summary: str


RECIPES: dict[str, Recipe] = {
    "erm": Recipe(("pretrain",), "plain cross-entropy, the baseline"),
    "denetdm": Recipe(("branches", "distill"), "DeNetDM: depth-modulated branches, then distillation"),
}


def stages_of(method: str | Sequence[str], last: str | None = None) -> list[Stage]:
    """The stages of a method, checked, up to and including the stage `last`.

    Parameters
    ----------
    method
        Name of a recipe, or a list of stage names.
    last
        Name of the stage after which to stop; None for all of them.

    Raises
    ------
    UserError
        An unknown name, a stage `last` that the method does not have, a need that no earlier stage gives.
    """
    if isinstance(method, str):
        if method not in RECIPES:
            raise UserError(f"method={method!r}: there are {', '.join(RECIPES)}{nearest(method, RECIPES)}")
        names: Sequence[str] = RECIPES[method].stages
    else:
        names = list(method)
    for name in names:
        if name not in STAGES:
            raise UserError(
                f"method: no stage is called {name!r}; there are {', '.join(STAGES)}{nearest(name, STAGES)}"
            )
    if last is not None:
        if last not in names:
            raise UserError(f"{last} is not a stage of method={method}, whose stages are {', '.join(names)}")
        names = list(names)[: list(names).index(last) + 1]
    check(names)
    return [STAGES[name] for name in names]


def check(names: Sequence[str]) -> None:
    """Refuse a list of stages in which one needs what no earlier one gives."""
    if not names:
        raise UserError("method: an empty list of stages")
    given: set[str] = set()
    for name in names:
        for need in STAGES[name].needs:
            if need not in given:
                givers = [stage.name for stage in STAGES.values() if need in stage.gives]
                raise UserError(f"stage {name} needs {need}, which no earlier stage gives; {', '.join(givers)} would")
        given |= set(STAGES[name].gives)
