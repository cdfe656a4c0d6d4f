"""The recipes: which stages make up a method. A new method is its files and a line here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from errors import UserError
from settings import nearest
from stages.augmented import Augmented
from stages.biaslabels import BiasBalanced, GroupDROStage
from stages.branches import BranchesStage
from stages.common.classifier import CIFAR
from stages.distill import Distill
from stages.end import EnD
from stages.finetune import Finetune
from stages.fisher import Fisher
from stages.lff import LfF
from stages.lntl import LNTL
from stages.mining.depth import MineDepth
from stages.mining.ensemble import MineEnsemble
from stages.mining.file import MineFile
from stages.mining.known import MineNone, MineOracle, TrueBias
from stages.mining.wrong import MineGCE, MineWrong
from stages.pretrain import Pretrain
from stages.prune import Prune
from stages.transfer import Transfer
from training.stage import Stage

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        BranchesStage(),
        Distill(),
        Pretrain(),
        MineWrong(),
        MineGCE(),
        MineEnsemble(),
        MineDepth(),
        MineOracle(),
        MineNone(),
        MineFile(),
        TrueBias(),
        Prune(),
        Finetune(),
        LfF(),
        GroupDROStage(),
        BiasBalanced(),
        EnD(),
        LNTL(),
        Fisher(),
        Transfer(),
        Augmented(),
    )
}


@dataclass(frozen=True)
class Recipe:
    """A method: the names of its stages in order, what it is in one line, and its stages on data sets with others."""

    stages: tuple[str, ...]
    summary: str
    on: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


RECIPES: dict[str, Recipe] = {
    "erm": Recipe(("pretrain",), "plain cross-entropy, the baseline"),
    "denetdm": Recipe(("branches", "distill"), "DeNetDM: depth-modulated branches, then distillation"),
    "dcwp": Recipe(
        ("pretrain", "mine_gce", "prune", "finetune"),
        "DCWP: mine, prune, fine-tune what is left",
        on=dict.fromkeys(CIFAR, ("pretrain", "mine_ensemble", "prune", "finetune")),
    ),
    "mrm": Recipe(("pretrain", "mine_none", "prune", "finetune"), "pruning without suspects, from first weights (MRM)"),
    "jtt": Recipe(("pretrain", "mine_wrong", "finetune"), "Just Train Twice: up-weigh what ERM gets wrong"),
    "lff": Recipe(("lff",), "Learning from Failure"),
    "lntl": Recipe(("lntl",), "Learning Not to Learn: features that do not tell the colour"),
    "lntl_pretrained": Recipe(("pretrain", "lntl"), "the same from a classifier trained by cross-entropy first"),
    "fisher": Recipe(("fisher",), "functional Fisher information: make use of every modality"),
    "group_dro": Recipe(("true_bias", "group_dro"), "GroupDRO on true bias labels"),
    "bias_balanced": Recipe(("true_bias", "bias_balanced"), "bias-balanced training on true bias labels"),
    "end": Recipe(("true_bias", "end"), "EnD: disentangle bias from features, on true bias labels"),
    "depth_balanced": Recipe(
        ("branches", "mine_depth", "bias_balanced"), "DeNetDM's branches give pseudo labels for bias-balanced training"
    ),
    "depth_dro": Recipe(("branches", "mine_depth", "group_dro"), "DeNetDM's branches give pseudo labels for GroupDRO"),
    "depth_end": Recipe(("branches", "mine_depth", "end"), "DeNetDM's branches give pseudo labels for EnD"),
    "depth_prune": Recipe(
        ("branches", "mine_depth", "prune", "finetune"),
        "DCWP's pruning of DeNetDM's shallow branch on depth-mined suspects",
    ),
    "depth_transfer": Recipe(
        ("branches", "mine_depth", "transfer"),
        "find what moves the shortcut of DeNetDM's deep branch, and train with it",
    ),
    "gce_transfer": Recipe(("mine_gce", "transfer"), "the same with a network biased on purpose by GCE"),
    "erm_operator": Recipe(("augmented",), "plain cross-entropy with an operator that is named or drawn, not chosen"),
}


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
        names: Sequence[str] = recipe.on.get(dataset or "", recipe.stages)
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
