"""The Sacred experiment: its settings, defaults and named configs, and the checks that run before any work."""

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sacred import SETTINGS, Experiment
from sacred.config import ConfigDict
from sacred.config.config_summary import ConfigSummary
from sacred.run import Run
from sacred.utils import iterate_flattened

from data.augment import AUGMENTATIONS
from data.generated.biased import VALIDATIONS
from data.generated.colored import PLACEMENTS
from data.generated.jitter import PALETTES
from data.mapped import STREAMING
from data.photos.decode import FRAMINGS
from data.photos.imagesets import PHOTOS, SIZES
from data.registry import DATASETS
from errors import UserError
from settings import Setting, nearest, on_sources
from stages.recipes import RECIPES, STAGES, stages_of
from tracking.mongo.address import Address
from tracking.observers import kept_output, observers_of, quiet_logger, take_address
from training.captured import GRAPH
from training.linear_probe import PROBED_ON
from training.optimisers import OPTIMISERS
from training.speed import SPEED_SETTINGS

# The default mode captures nothing of short runs; progress bars go round the capture (commands.console).
SETTINGS.CAPTURE_MODE = "sys"

# Of data sets that are image files.
IMAGE_SETTINGS: dict[str, Setting] = {
    "image_size": Setting(
        None, "side of the images in pixels, for bffhq, celeba, bar and own_images",
        low=8, high=1024, optional=True, kind=int,
        # DCWP's own size; DeNetDM and DisEnt enlarge the 128 pixels of BFFHQ.
        at={**{name: SIZES[name] for name in PHOTOS}, ("dcwp", "bffhq"): 128, ("mrm", "bffhq"): 128},
    ),
    "framing": Setting(
        "crop", "how photographs of own_images become squares: their middle, stretched, or whole with black bars",
        choices=FRAMINGS,
    ),
    "augment": Setting(
        None, "random changes of training images; None: the data set's own", choices=("none", *AUGMENTATIONS),
        optional=True, kind=str, at={("dcwp", "bffhq"): "flip", ("mrm", "bffhq"): "flip"},
    ),
    "labels": Setting(
        None, "a CSV of own_images (path, target, and optionally bias, split), or the metadata CSV of celeba",
        optional=True, kind=str,
    ),
    "outside": Setting(False, "whether paths in `labels` may lead out of data_dir"),
    "test_fraction": Setting(
        0.2, "share of each class of own_images that becomes the test set, where none is given", low=0.0, high=0.9,
    ),
    "own_valid": Setting(
        False, "select by the validation images a data set brings (`valid_given`), unless valid_fraction is set",
        at={"own_images": True},
    ),
    "bad_files": Setting("stop", "broken, empty or wrongly named image files: stop, or skip", choices=("stop", "skip")),
    "duplicates": Setting(
        "keep", "image files with equal contents: stop, skip all but one, or keep",
        choices=("stop", "skip", "keep"), at={"own_images": "stop"},
    ),
    "folder": Setting(None, "folder or archive of images for `predict`", optional=True, kind=str),
    "output": Setting(
        None, "folder for what `predict` and `export` write; None: the run's folder", optional=True, kind=str
    ),
    "streaming": Setting(
        "auto", "read image files' batches from the cache: auto (where they do not fit on the device), always, never",
        choices=STREAMING,
    ),
}  # fmt: skip

RUN_SETTINGS: dict[str, Setting] = {
    "dataset": Setting("colored_mnist", "data set", choices=tuple(DATASETS)),
    "method": Setting("denetdm", "recipe, or a list of stages such as [branches, distill]", kind=object),
    "skew": Setting(
        0.05, "share of conflicting training images", low=0.0, high=1.0,
        at={"bffhq": 0.005, "celeba": 0.01} | on_sources(0.003, "biased") | on_sources(0.0, "jitter", "bimodal"),
    ),
    "rho": Setting(
        None, "the same said the other way, 1 - skew; None: as skew says", low=0.0, high=1.0,
        optional=True, kind=float,
    ),
    "n_confusing_labels": Setting(
        9, "how many other colours the conflicting training images of a class of biased_* get", low=1, high=9
    ),
    "severity": Setting(
        4, "how little colours vary (1 to 5: least) or how strong corruptions are (0 to 4: strongest)", low=0, high=5
    ),
    "type": Setting(0, "which ten corruptions Corrupted CIFAR-10 uses", choices=(0, 1)),
    "placement": Setting(
        "blocks",
        "which images of a class conflict: blocks, as in the released generator, or its last ones",
        choices=PLACEMENTS,
    ),
    "frost_dir": Setting(
        None, "folder of frost photographs for Corrupted CIFAR-10; None: frost made by rule", optional=True, kind=str
    ),
    "variance": Setting(0.03, "variance sigma^2 of the colours of jitter_*", low=0.0, high=1.0),
    "palette": Setting(
        "jitter", "mean colours of jitter_*: its own, those of colored_mnist, or random ones", choices=PALETTES
    ),
    "colour_std": Setting(0.1, "spread of the colours of bimodal_*", low=0.0, high=1.0),
    "reverse": Setting(False, "exchange target and bias"),
    "optimiser": Setting("adam", "optimiser of all stages", choices=tuple(OPTIMISERS)),
    "seed": Setting(1, "the only seed: data, weights, order", low=0, high=2**32 - 1),
    "replicas": Setting(
        1, "train so many seeds at once, this one and the next ones, each with a run of its own", low=1, high=1000
    ),
    "valid_fraction": Setting(
        0.0, "share of training images held out for the selection `valid`", low=0.0, high=0.9,
        at=on_sources(0.1, "biased") | on_sources(0.2, "bimodal"),
    ),
    "validation": Setting(
        "unbiased",
        "validation images of biased_*: held out and coloured without bias, training images coloured anew without bias "
        "(overlapping, as published), or held out with the bias they have",
        choices=tuple(VALIDATIONS),
    ),
    "limit": Setting(
        None, "use only this many training images (and a sixth as many test images)",
        low=60, optional=True, kind=int,
    ),
    "quick": Setting(False, "small budgets, to see the whole thing in minutes"),
    "device": Setting("auto", "auto (a GPU when there is one), cpu, cuda, cuda:1, mps, ..."),
    **SPEED_SETTINGS,
    "graph": GRAPH,
    "threads": Setting(None, "CPU threads; None leaves it to torch", low=1, optional=True, kind=int),
    "data_dir": Setting(
        None, "folder with the source files; else (not for own_images) the variable DATA_DIR; else a download",
        optional=True, kind=str,
    ),
    **IMAGE_SETTINGS,
    "imagenet_weights": Setting(
        None, "file of torchvision's ResNet-18 weights for networks named *_imagenet; else found or downloaded",
        optional=True, kind=str,
    ),
    "cache_dir": Setting(".cache", "folder for built data sets and downloads"),
    "tensorboard": Setting(False, "TensorBoard scalars in the run's folder (needs the package tensorboardx)"),
    "csv_metrics": Setting(False, "metrics.csv in the run's folder: metric, epoch, value"),
    "mongo_url": Setting(
        None, "MongoDB to record the run in as well, mongodb://host:port/database; else the variable MONGO_URL",
        optional=True, kind=str,
    ),
    "mongo_required": Setting(False, "stop when that server does not answer at the start, in place of files alone"),
    "mongo_file_mb": Setting(16.0, "larger files stay on disk, with path and digest in the database", low=0.0),
    "store": Setting("runs", "folder for runs, and for finished stages in its subfolder stages"),
    "fresh": Setting(False, "compute every stage anew, whatever is stored"),
    "checkpoint_seconds": Setting(30.0, "least time between two checkpoints; 0: one each epoch", low=0.0),
    "progress": Setting(True, "progress bars"),
    "train": Setting(True, "False evaluates `checkpoint` instead of training"),
    "probe_on": Setting(
        "test",
        "what the command probe fits linear classifiers on: half of the test images, or the training images",
        choices=PROBED_ON,
    ),
    "checkpoint": Setting(
        None, "weights to evaluate: a file of ours, or a .th file of the authors' release",
        optional=True, kind=str,
    ),
}  # fmt: skip

# kind -> name -> what it sets. At most one of a kind may be given.
NAMED_CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    "data set": {name: {"dataset": name} for name in DATASETS},
    "method": {name: {"method": name} for name in RECIPES},
    "skew": {
        **{f"skewed{i}": {"skew": skew} for i, skew in enumerate((0.9, 0.05, 0.02, 0.01, 0.005))},
        **{f"rho{thousandths}": {"rho": thousandths / 1000} for thousandths in (999, 997, 995, 990)},
    },
    "severity": {f"severity{i}": {"severity": i} for i in range(1, 5)},
    "type": {f"type{i}": {"type": i} for i in range(2)},
    "variance": {f"var{thousandths:03d}": {"variance": thousandths / 1000} for thousandths in range(20, 55, 5)},
    "optimiser": {name: {"optimiser": name} for name in OPTIMISERS},
    "direction": {"reverse": {"reverse": True}},
    # As EnD was published: digits of the training set, coloured anew, choose the epoch.
    "validation": {"overlapping": {"validation": "overlapping", "valid_fraction": 0.3}},
    "budget": {"quick": {"quick": True}},
    # The published code's way where ours is another: DeNetDM selects on the test set inside the method (results then
    # say so), LNTL moves layers without a gradient, the functional Fisher regulariser has its arguments exchanged.
    "protocol": {
        "reference": {
            "distill": {"teacher": "oracle"},
            "lntl": {"idle_layers": "move"},
            "fisher": {
                "form": "published",
                "estimation": "var",
                "lambda_image": 1e-12,
                "lambda_colour": 7e-11,
                "norm": 1.0,
                "n_samples": 10,
                "perturb": 1.0,
                "learning_rate": 1e-2,
                "epochs": 50,
                "patience": 10,
            },
        }
    },
}

# Sacred's own key beside the run's settings.
_SACRED = {"seed"}


class Defaults:
    """Default settings as a Sacred config: they depend on the data set, the method and the budget.

    Settings of the command line (`fixed`) and of named configs (`preset`) go before them.
    """

    def __call__(
        self, fixed: Mapping | None = None, preset: Mapping | None = None, fallback: Mapping | None = None
    ) -> ConfigSummary:
        given = {**dict(preset or {}), **dict(fixed or {})}
        chosen = [given.get(name, RUN_SETTINGS[name].default) for name in ("method", "dataset", "quick")]
        method, dataset, quick = chosen[0], str(chosen[1]), chosen[2] is True
        defaults: dict[str, Any] = {
            name: setting.default_for(method, dataset, quick) for name, setting in RUN_SETTINGS.items()
        }
        for stage in STAGES.values():
            defaults[stage.name] = {
                name: setting.default_for(method, dataset, quick) for name, setting in stage.settings.items()
            }
        summary = ConfigDict(defaults)(fixed=fixed, preset=preset, fallback=fallback)
        summary.docs = documentation()
        return summary


class DebiasExperiment(Experiment):
    """The experiment; it refuses contradicting named configs, and records to files wherever `store` says.

    `database` is the MongoDB of the last run that was created, None without one.
    """

    database: Address | None = None

    def _create_run(
        self,
        command_name: str | None = None,
        config_updates: Mapping | None = None,
        named_configs: Sequence[str] = (),
        info: Mapping | None = None,
        meta_info: Mapping | None = None,
        options: Mapping | None = None,
    ) -> Run:
        check_named(named_configs)
        updates, options = dict(config_updates or {}), dict(options or {})
        # Taken out first: everything given to Sacred is recorded.
        self.database = take_address(updates, options)
        meta = {**(meta_info or {}), "uid": secrets.token_hex(8)}
        run = super()._create_run(command_name, updates, named_configs, info, meta, options)
        if not run.unobserved:
            run.observers += observers_of(run.config, self.database)
        return run


def build_experiment() -> DebiasExperiment:
    """A fresh experiment with all settings and named configs, and no command yet."""
    experiment = DebiasExperiment("debias", save_git_info=False)
    experiment.captured_out_filter = kept_output  # type: ignore[assignment]
    experiment.logger = quiet_logger()  # type: ignore[assignment]
    experiment.configurations.append(Defaults())
    for names in NAMED_CONFIGS.values():
        for name, values in names.items():
            experiment.add_named_config(name, values)
    experiment.config_hook(_check_hook)
    return experiment


def check_named(names: Sequence[str]) -> None:
    """Refuse unknown named configs and two of one kind.

    Raises
    ------
    UserError
        Naming the nearest valid name, or the two that exclude each other.
    """
    kinds: dict[str, str] = {}
    for name in names:
        kind = next((kind for kind, known in NAMED_CONFIGS.items() if name in known), None)
        if kind is None:
            known = [known for group in NAMED_CONFIGS.values() for known in group]
            raise UserError(f"no named config is called {name!r}{nearest(name, known)} (`help` lists them all)")
        if kinds.setdefault(kind, name) != name:
            raise UserError(f"two {kind}s at once: {kinds[kind]} and {name}; give one")


def check_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """All settings in their own types.

    Raises
    ------
    UserError
        The first one that is unknown, of a wrong type or out of range, with the nearest valid name or what is accepted.
    """
    known = known_settings()
    checked: dict[str, Any] = {name: {} for name in STAGES}
    for path, value in iterate_flattened(dict(config)):
        if path in STAGES and value == {}:
            continue  # a stage without settings
        if path not in known:
            if path in STAGES:
                raise UserError(f"{path} is a group of settings: give one of them, as in {path}.epochs=5")
            raise UserError(f"no setting is called {path!r}{nearest(path, known)} (`print_config` lists them all)")
        group, _, name = path.rpartition(".")
        (checked[group] if group else checked)[name] = known[path].check(path, value)
    checked["skew"] = _one_share(checked)
    if checked["seed"] + checked["replicas"] > 2**32:
        raise UserError(f"replicas={checked['replicas']}: seeds end at {2**32 - 1}; take a smaller seed")
    checked["method"] = parse_method(checked["method"])
    stages_of(checked["method"], dataset=checked["dataset"])
    return checked


def _one_share(checked: Mapping[str, Any]) -> float:
    """The share of conflicting training images, by whichever of skew and rho it was given."""
    skew, rho = checked["skew"], checked["rho"]
    if rho is None:
        return skew
    said = round(1 - rho, 12)
    if skew not in (said, RUN_SETTINGS["skew"].default_for(None, checked["dataset"])):
        raise UserError(f"rho={rho:g} and skew={skew:g} contradict each other; give one of them")
    return said


def known_settings() -> dict[str, Setting]:
    """Every setting by its dotted name."""
    known = dict(RUN_SETTINGS)
    for stage in STAGES.values():
        known |= {f"{stage.name}.{name}": setting for name, setting in stage.settings.items()}
    return known


def documentation() -> dict[str, str]:
    """One line of help for every setting and group."""
    lines = {path: f"{setting.help} [{setting.accepted()}]" for path, setting in known_settings().items()}
    lines["method"] = RUN_SETTINGS["method"].help + f" [{', '.join(RECIPES)}]"
    return lines | {stage.name: stage.summary for stage in STAGES.values()}


def parse_method(method: Any) -> str | list[str]:
    """A recipe's name, or the list of stages in `[a, b]`."""
    if isinstance(method, str) and method.startswith("[") and method.endswith("]"):
        return [part.strip().strip("'\"") for part in method[1:-1].split(",") if part.strip()]
    if isinstance(method, str):
        return method
    if isinstance(method, list | tuple) and all(isinstance(part, str) for part in method):
        return list(method)
    raise UserError(f"setting method: {method!r} is neither a recipe nor a list of stages; {', '.join(RECIPES)}")


def _check_hook(config: dict[str, Any], command_name: str, logger: Any) -> dict[str, Any]:
    checked = check_settings(config)
    given = ("evaluate", "probe", "predict", "export")
    if command_name in given or (command_name == "train" and not checked["train"]):
        if checked["checkpoint"] is None:
            doing = command_name if command_name in given else "evaluate"
            raise UserError(f"nothing to {doing}{' with' if doing == 'predict' else ''}: set checkpoint=FILE")
        if not Path(checked["checkpoint"]).is_file():
            raise UserError(f"checkpoint={checked['checkpoint']}: there is no such file")
        if command_name == "predict" and (checked["folder"] is None or not Path(checked["folder"]).exists()):
            here = "set folder=FOLDER" if checked["folder"] is None else f"folder={checked['folder']} is not there"
            raise UserError(f"no images to predict: {here}")
    else:
        last = command_name if command_name in STAGES or command_name == "mine" else None
        for stage in stages_of(checked["method"], last, checked["dataset"]):
            stage.check(checked)
    return {"method": checked["method"], "skew": checked["skew"]}


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
    """Checked settings as plain dicts, with what is read from the environment filled in."""
    checked = check_settings(config)
    if checked["dataset"] != "own_images":
        checked["data_dir"] = checked["data_dir"] or os.environ.get("DATA_DIR") or None
    return checked
