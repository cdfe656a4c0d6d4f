"""Which trials can be trained simultaneously (`training.replicas`), as far as their settings tell."""

from collections.abc import Mapping
from typing import Any

from debias.digests import digest
from debias.stages.recipes import stages_of

# In these they may differ: they change what images show, not how many there are or what they look like to a network.
VARYING = frozenset(
    (
        "seed", "skew", "rho", "severity", "type", "placement", "n_confusing_labels", "variance", "palette",
        "colour_std", "frost_dir",
    )
)  # fmt: skip

# Stages of which several runs are trained one after another: they draw in their losses, keep averages, or have more
# than one update a batch.
ONE_BY_ONE = frozenset(
    (
        "mine_ensemble",
        "prune",
        "lff",
        "lc",
        "dfa",
        "selecmix",
        "rebias",
        "afr",
        "dfr",
        "group_dro",
        "lntl",
        "fisher",
        "shortcut",
        "transfer",
        "augmented",
    )
)

# Networks that are a function of their weights and images: no normalisation by the batch, no dropout.
PLAIN = frozenset(
    (
        "mlp3", "mlp4", "mlp5", "mlp3_divided", "mlp4_divided", "mlp5_divided", "lenet", "linear", "linear_early",
        "mlp_features", "dual_mlp3", "dual_mlp4", "dual_mlp5", "dual_mlp3_divided", "dual_mlp4_divided",
        "dual_mlp5_divided", "dual_mlp_features",
    )
)  # fmt: skip


def alike_of(settings: Mapping[str, Any]) -> str:
    """Equal for runs that can be trained simultaneously; empty where no stage of a run can.

    settings : all of a run, resolved
    """
    if settings["compile"] == "on" or not any(_stacks(settings[name]) for name in _at_once(settings)):
        return ""
    return digest({name: value for name, value in settings.items() if name not in VARYING})


def _at_once(settings: Mapping[str, Any]) -> list[str]:
    stages = stages_of(settings["method"], dataset=settings["dataset"])
    return [stage.name for stage in stages if "epochs" in stage.settings and stage.name not in ONE_BY_ONE]


def _stacks(own: Mapping[str, Any]) -> bool:
    """Whether a stage has networks of its own, all of them plain; others continue with those of earlier stages."""
    networks = {own[name] for name in ("network", "shallow", "deep") if own.get(name)}
    return bool(networks) and networks <= PLAIN
