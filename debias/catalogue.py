"""Every setting by name: those of a run, and those of the stages."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from debias.data.kinds import FEATURES, LAST_BLOCK
from debias.data.registry import DATASETS
from debias.data.settings import DATA_SETTINGS
from debias.settings import DECIDING, Setting
from debias.stages.recipes import RECIPES, STAGES, stages_of
from debias.training.captured import GRAPH
from debias.training.linear_probe import PROBED_ON
from debias.training.optimisers import OPTIMISERS
from debias.training.speed import SPEED_SETTINGS

RUN_SETTINGS: dict[str, Setting] = {
    "method": Setting("denetdm", "recipe, or a list of stages such as [branches, distill]", kind=object),
    **DATA_SETTINGS,
    "seed": Setting(1, "the only seed: data, weights, order", low=0, high=2**32 - 1),
    "optimiser": Setting("adam", "optimiser of all stages", choices=tuple(OPTIMISERS)),
    "quick": Setting(False, "small budgets, to see the whole thing in minutes"),
    "replicas": Setting(
        1, "number of seeds trained simultaneously, from `seed` on; each has a run of its own",
        low=1, high=256, role="machine",
    ),
    **SPEED_SETTINGS,
    "imagenet_weights": Setting(
        None, "file of torchvision's ResNet-18 weights for networks named *_imagenet; else found or downloaded",
        optional=True, kind=str,
    ),
    # Where a run works, and how fast.
    "device": Setting("auto", "auto (a GPU when there is one), cpu, cuda, cuda:1, mps, ...", role="machine"),
    "graph": GRAPH,
    "threads": Setting(
        None, "CPU threads; None leaves it to torch", low=1, high=4096, optional=True, kind=int, role="machine"
    ),
    "store": Setting("runs", "folder for runs, and for finished stages in its subfolder stages", role="machine"),
    "fresh": Setting(False, "compute every stage again, whatever is stored", role="machine"),
    "checkpoint_seconds": Setting(
        30.0, "least time between two checkpoints; 0: one each epoch", low=0.0, role="machine"
    ),
    "mongo_url": Setting(
        None, "MongoDB to record the run in as well, mongodb://host:port/database; else the variable MONGO_URL",
        optional=True, kind=str, role="machine",
    ),
    "mongo_required": Setting(
        False, "stop when that server does not answer at the start; False: continue with files only", role="machine"
    ),
    "mongo_file_mb": Setting(
        16.0, "larger files stay on disk, with path and digest in the database",
        low=0.0, high=2.0**20, role="machine",
    ),
    # What is shown, read or written beside.
    "progress": Setting(True, "progress bars", role="view"),
    "tensorboard": Setting(
        False, "TensorBoard scalars in the run's folder (needs the package tensorboardx)", role="view"
    ),
    "csv_metrics": Setting(False, "metrics.csv in the run's folder: metric, epoch, value", role="view"),
    "pictures": Setting(
        True, "pictures of curves, matrices and images in the run's folder; numbers and tables are there without them",
        role="view",
    ),
    "train": Setting(True, "False evaluates `checkpoint` instead of training", role="view"),
    "checkpoint": Setting(
        None, "weights to evaluate: a file of ours, or a .th file of the authors' release",
        optional=True, kind=str, role="view",
    ),
    "folder": Setting(None, "folder or archive of images for `predict`", optional=True, kind=str, role="view"),
    "output": Setting(
        None, "folder for what `predict` and `export` write; None: the run's folder",
        optional=True, kind=str, role="view",
    ),
    "probe_on": Setting(
        "test",
        "what the command probe fits linear classifiers on: half of the test images, or the training images",
        choices=PROBED_ON, role="view",
    ),
    "diagnose_images": Setting(
        5000, "how many training images the command diagnose looks at, at most", low=40, role="view"
    ),
    "everything": Setting(
        False, "print_config shows the settings of all stages and data sets, not of the chosen ones alone", role="view"
    ),
}  # fmt: skip


def known_settings() -> dict[str, Setting]:
    """Every setting by its dotted name."""
    known = dict(RUN_SETTINGS)
    for stage in STAGES.values():
        known |= {f"{stage.name}.{name}": setting for name, setting in stage.settings.items()}
    return known


@functools.cache
def documentation() -> Mapping[str, str]:
    """One line of help for every setting and group."""
    lines = {path: f"{setting.help} [{setting.accepted()}]" for path, setting in known_settings().items()}
    lines["method"] = RUN_SETTINGS["method"].help + f" [{', '.join(RECIPES)}]"
    return lines | {stage.name: stage.summary for stage in STAGES.values()}


def default_for(
    path: str,
    method: str | Sequence[str] | None,
    dataset: str,
    quick: bool = False,
    features: bool = False,
    last_block: str = "",
) -> Any:
    """The default of a setting, by dotted name, under a method, a data set and a budget.

    The first that has one: the setting's own small budget and the data set's, both under `quick` alone; the recipe, on
    the data set, on its kind, and everywhere; the data set and its kind; the setting. With `features` in place of
    images: the recipe on that kind, that kind, the recipe everywhere, the data set, the setting; budgets are small.
    With a `last_block`, that network is trained where a linear one would be, with a rate and a decay of its own.
    """
    if features and dataset in DATASETS:
        found = _default_on_features(path, method, dataset)
        return _of_last_block(path, method, dataset, last_block, found) if last_block else found
    setting = _KNOWN[path]
    if quick and setting.quick is not None:
        return setting.quick
    spec = DATASETS.get(dataset)
    recipe = RECIPES.get(method) if isinstance(method, str) else None
    found = (False, None)
    if quick and spec is not None:
        found = spec.default(path, setting, quick=True)
    if not found[0] and recipe is not None:
        found = recipe.sets(path, dataset)
    if not found[0] and spec is not None:
        found = spec.default(path, setting)
    return found[1] if found[0] else setting.default


def _default_on_features(path: str, method: str | Sequence[str] | None, dataset: str) -> Any:
    setting, spec = _KNOWN[path], DATASETS[dataset].on(FEATURES)
    recipe = RECIPES.get(method) if isinstance(method, str) else None
    found = (False, None) if recipe is None else recipe.sets_on(FEATURES.name, path)
    if not found[0]:
        found = spec.default(path, setting)
    if not found[0] and recipe is not None and path in recipe.values:
        found = True, recipe.values[path]
    return found[1] if found[0] else setting.default


def _of_last_block(path: str, method: str | Sequence[str] | None, dataset: str, network: str, found: Any) -> Any:
    stage, _, name = path.rpartition(".")
    if name == "network" and found == "linear":
        return network
    own = f"{stage}.network"
    if name in LAST_BLOCK and own in _KNOWN and _default_on_features(own, method, dataset) == "linear":
        return LAST_BLOCK[name]
    return found


def decides(path: str) -> bool:
    """Whether a setting, by dotted name, decides a run's figures; one that is not known (any more) is taken to."""
    return path not in _KNOWN or _KNOWN[path].role in DECIDING


# Settings that only some data sets have.
_OWNED = {
    name for spec in DATASETS.values() for name in (*spec.settings, *spec.kind.settings)
} | {"skew", "rho"}  # fmt: skip


def concerned(method: str | Sequence[str], dataset: str) -> list[str]:
    """The settings, by dotted name, that have a meaning under a method and on a data set."""
    groups = {stage.name for stage in stages_of(method, dataset=dataset)}
    return [path for path in _KNOWN if (path.rpartition(".")[0] in groups if "." in path else _is_of(path, dataset))]


def concerns(path: str, method: str | Sequence[str], dataset: str) -> bool:
    """Whether a setting, by dotted name, has a meaning under a method and on a data set."""
    group = path.rpartition(".")[0]
    if group:
        return any(stage.name == group for stage in stages_of(method, dataset=dataset))
    return _is_of(path, dataset)


def _is_of(name: str, dataset: str) -> bool:
    """Whether a run's setting has a meaning on a data set."""
    return name not in _OWNED or dataset not in DATASETS or DATASETS[dataset].has(name)


def role_under(name: str, dataset: str) -> Literal["data", "method"] | None:
    """What a run's setting decides on a data set; None: no figure. One that is not known (any more) made the data."""
    if name not in RUN_SETTINGS:
        return "data"
    role = RUN_SETTINGS[name].role
    if role not in DECIDING or not concerns(name, (), dataset):
        return None
    return "data" if role == "data" else "method"


def roles_in(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of a run's settings by what they decide, `data` or `method`, and those that titles tell; for its record."""
    names = [name for name, value in config.items() if not isinstance(value, Mapping)]
    roles = {name: role_under(name, str(config["dataset"])) for name in names}
    said: dict[str, list[str]] = {role: [name for name in names if roles[name] == role] for role in DECIDING}
    return said | {"told": [name for name in names if name in RUN_SETTINGS and RUN_SETTINGS[name].told]}


_KNOWN = known_settings()
