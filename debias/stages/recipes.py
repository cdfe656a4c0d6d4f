"""The stages by name, and the stages of a method, checked. A new one is its file and a line in `MODULES`."""

from collections.abc import Sequence
from importlib import import_module
from inspect import isclass
from types import ModuleType

from debias.errors import UserError
from debias.settings import nearest
from debias.stages.methods import RECIPES as PUBLISHED
from debias.stages.recipe import Recipe
from debias.training.stage import Stage

# Their stages come in this order in help. A module may bring recipes of its own: `RECIPES`, by name.
MODULES = (
    "debias.stages.branches",
    "debias.stages.distill",
    "debias.stages.pretrain",
    "debias.stages.mining.wrong",
    "debias.stages.mining.ensemble",
    "debias.stages.mining.depth",
    "debias.stages.mining.known",
    "debias.stages.mining.file",
    "debias.stages.mining.property",
    "debias.stages.prune",
    "debias.stages.finetune",
    "debias.stages.lff",
    "debias.stages.lc",
    "debias.stages.dfa",
    "debias.stages.selecmix",
    "debias.stages.rebias",
    "debias.stages.biaslabels",
    "debias.stages.resample",
    "debias.stages.afr",
    "debias.stages.dfr",
    "debias.stages.end",
    "debias.stages.lntl",
    "debias.stages.fisher",
    "debias.stages.shortcut",
    "debias.stages.transfer",
    "debias.stages.augmented",
    "debias.stages.moved",
)


def _stages_in(module: ModuleType) -> list[Stage]:
    """The stages that a module defines, in its order; what it imports is another's."""
    found = [value for value in vars(module).values() if isclass(value) and issubclass(value, Stage)]
    return [stage() for stage in found if stage.__module__ == module.__name__ and hasattr(stage, "name")]


_LOADED = [import_module(name) for name in MODULES]
STAGES: dict[str, Stage] = {stage.name: stage for module in _LOADED for stage in _stages_in(module)}
RECIPES: dict[str, Recipe] = dict(PUBLISHED)
for _module in _LOADED:
    RECIPES |= getattr(_module, "RECIPES", {})


def final_stage(stages: Sequence[Stage]) -> Stage | None:
    """The stage whose model a run is for: the last that trains and gives a model, else the last that trains."""
    trained = [stage for stage in stages if stage.read_outs]
    return next((stage for stage in reversed(trained) if "model" in stage.gives), trained[-1] if trained else None)


def stages_of(method: str | Sequence[str], last: str | None = None, dataset: str | None = None) -> list[Stage]:
    """The stages of a method, checked, up to and including the stage `last`.

    Parameters
    ----------
    method
        Name of a recipe, or a list of stage names.
    last
        Name of the stage after which to stop, `mine` for the first miner; None for all of them.
    dataset
        Name of the data set, for recipes that have other stages on some.

    Raises
    ------
    UserError
        An unknown name, a stage `last` that the method does not have, a need that no earlier stage gives.
    """
    if isinstance(method, str):
        if method not in RECIPES:
            raise UserError(f"method={method!r}: there are {', '.join(RECIPES)}{nearest(method, RECIPES)}")
        recipe = RECIPES[method]
        names: Sequence[str] = recipe.stages_on(dataset)
    else:
        names = list(method)
    for name in names:
        if name not in STAGES:
            raise UserError(
                f"method: no stage is called {name!r}; there are {', '.join(STAGES)}{nearest(name, STAGES)}"
            )
    if last == "mine":
        miners = [name for name in names if "conflict_score" in STAGES[name].gives]
        if not miners:
            raise UserError(f"method={method} mines nothing; try method=dcwp or method=depth_balanced")
        last = miners[0]
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
    if len(set(names)) < len(names):
        raise UserError("method: a stage comes twice; its settings and its record go by its name, so once is possible")
    for name in names:
        for need in STAGES[name].needs:
            if need not in given:
                givers = [stage.name for stage in STAGES.values() if need in stage.gives]
                raise UserError(f"stage {name} needs {need}, which no earlier stage gives; {', '.join(givers)} would")
        given |= set(STAGES[name].gives)
