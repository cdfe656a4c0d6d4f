"""The Sacred experiment: its settings, defaults and named configs, and the checks that run before any work."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sacred import SETTINGS, Experiment
from sacred.config import ConfigDict
from sacred.config.config_summary import ConfigSummary
from sacred.run import Run
from sacred.utils import iterate_flattened

from debias.catalogue import RUN_SETTINGS, concerned, concerns, default_for, documentation, known_settings
from debias.data.registry import DATASETS
from debias.data.settings import complete
from debias.errors import UserError
from debias.features.choice import Choice, choose, last_block_of
from debias.features.loading import AUTO, NONE
from debias.settings import nearest
from debias.stages.recipes import RECIPES, STAGES, stages_of
from debias.tracking.mongo.address import Address
from debias.tracking.observers import check_kept, kept_output, observers_of, quiet_logger, take_address
from debias.training.optimisers import OPTIMISERS
from debias.training.walk import check_features

# The default mode captures nothing of short runs; progress bars go round the capture (commands.console).
SETTINGS.CAPTURE_MODE = "sys"

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
    # As EnD was published: digits of the training set, coloured again, choose the epoch.
    "validation": {"overlapping": {"validation": "overlapping", "valid_fraction": 0.3}},
    "budget": {"quick": {"quick": True}},
    # The published code's way where ours is another: DeNetDM selects on the test set inside the method (results then
    # say so), LNTL moves layers without a gradient, the functional Fisher regulariser has its arguments exchanged. The
    # baselines' MLP divides its inputs by 255 once more; DeNetDM's own networks do not.
    "protocol": {
        "reference": {
            "distill": {"teacher": "oracle"},
            "pretrain": {"second_division": True},
            "lff": {"second_division": True},
            "lc": {"second_division": True},
            "dfa": {"second_division": True},
            "group_dro": {"second_division": True},
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

# Commands that look at images, or take features as the weights they are given say.
ON_IMAGES = ("diagnose", "samples", "predict", "export")

# Share of the training images that `study` holds out to choose by, unless it is given.
STUDY_HELD_OUT = 0.2

# Sacred's own key beside the run's settings.
_SACRED = {"seed"}


class Defaults:
    """Default settings as a Sacred config: they depend on the data set, the method and the budget.

    Only those that concern the data set and the method are there, unless `everything` is set.
    Settings of the command line (`fixed`) and of named configs (`preset`) go before them.
    """

    def __call__(
        self, fixed: Mapping | None = None, preset: Mapping | None = None, fallback: Mapping | None = None
    ) -> ConfigSummary:
        fixed = dict(fixed or {})
        given = {**dict(preset or {}), **fixed}
        features = features_of(dict(iterate_flattened(given)))
        if given.get("features") == AUTO:
            fixed["features"] = features
        chosen = [given.get(name, RUN_SETTINGS[name].default) for name in ("method", "dataset", "quick", "everything")]
        method, dataset, quick = _method_or_none(chosen[0]), str(chosen[1]), chosen[2] is True
        # What is given is there to be recorded, also where it is without meaning.
        said = {path for source in (preset, fixed) for path, _ in iterate_flattened(dict(source or {}))}
        defaults: dict[str, Any] = {}
        known, network = known_settings(), last_block_of(features)
        shown = set(known) if chosen[3] is True or method is None else said | set(concerned(method, dataset))
        for path in known:
            if path in shown:
                group, _, name = path.rpartition(".")
                own = defaults.setdefault(group, {}) if group else defaults
                own[name] = default_for(
                    path, chosen[0] if method is None else method, dataset, quick, features != NONE, network
                )
                if path == "features" and own[name] == AUTO:
                    own[name] = features
        for stage in STAGES.values() if chosen[3] is True or method is None else stages_of(method, dataset=dataset):
            defaults.setdefault(stage.name, {})
        summary = ConfigDict(defaults)(fixed=fixed, preset=preset, fallback=fallback)
        summary.docs = dict(documentation())
        return summary


def features_of(given: Mapping[str, Any]) -> str:
    """The setting `features` of a run, `auto` resolved; `given` are settings by dotted path, as far as said."""
    dataset = str(given.get("dataset", RUN_SETTINGS["dataset"].default))
    value = given.get("features", default_for("features", None, dataset))
    # Weights that are there say what they were trained on.
    if value == AUTO or ("features" not in given and given.get("checkpoint") is not None):
        return choice_of(given).value if concerns("features", (), dataset) else NONE
    return str(value)


def choice_of(given: Mapping[str, Any]) -> Choice:
    """What `features=auto` is for a run, by its settings and its method."""
    method = _method_or_none(given.get("method", RUN_SETTINGS["method"].default))
    dataset = str(given.get("dataset", RUN_SETTINGS["dataset"].default))
    stages = [] if method is None else stages_of(method, dataset=dataset)
    return choose(given, [stage.name for stage in stages if not stage.takes_features])


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
        if command_name in ON_IMAGES:
            updates.setdefault("features", NONE)
        if command_name == "study":
            updates.setdefault("valid_fraction", STUDY_HELD_OUT)
        # Taken out first: everything given to Sacred is recorded.
        self.database = take_address(updates, options)
        meta = {**(meta_info or {}), "uid": secrets.token_hex(8)}
        run = super()._create_run(command_name, updates, named_configs, info, meta, options)
        if not run.unobserved:
            run.observers += observers_of(run.config, self.database)
        return run

    def run_commandline(self, argv: Sequence[str] | None = None) -> Run | None:
        """As Sacred's; a run of which files could not be written is a failed one, also when it is over."""
        run = super().run_commandline(argv)
        if run is not None:
            check_kept(run)
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
            raise UserError(f"two {kind}s are given: {kinds[kind]} and {name}; give one")


def check_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """All settings in their own types; those that `config` leaves out have their defaults.

    Raises
    ------
    UserError
        The first one that is unknown, of a wrong type or out of range, with the nearest valid name or what is accepted.
    """
    known = known_settings()
    given: dict[str, Any] = {}
    for path, value in iterate_flattened(dict(config)):
        if path in STAGES and value == {}:
            continue  # a stage without settings
        if path not in known:
            if path in STAGES:
                raise UserError(f"{path} is a group of settings: give one of them, as in {path}.epochs=5")
            raise UserError(f"no setting is called {path!r}{nearest(path, known)} (`print_config` lists them all)")
        given[path] = known[path].check(path, value)
    method, dataset = parse_method(given.get("method", known["method"].default)), given.get("dataset")
    stages_of(method, dataset=dataset or known["dataset"].default)
    given["features"] = features_of(given)
    default = _defaults(method, given)
    checked: dict[str, Any] = {name: {} for name in STAGES}
    for path in known:
        group, _, name = path.rpartition(".")
        own = checked[group] if group else checked
        own[name] = given[path] if path in given else default(path)
    checked["method"] = method
    checked["skew"] = _one_share(checked)
    if checked["seed"] + checked["replicas"] > 2**32:
        raise UserError(f"replicas={checked['replicas']}: seeds end at {2**32 - 1}; take a smaller seed")
    return checked


def _defaults(method: str | list[str], given: Mapping[str, Any]) -> Callable[[str], Any]:
    """The default of a setting, by dotted name, beside those that are given."""
    dataset, quick = given.get("dataset", RUN_SETTINGS["dataset"].default), given.get("quick") is True
    features, network = given["features"] != NONE, last_block_of(given["features"])
    return lambda path: default_for(path, method, dataset, quick, features, network)


def _method_or_none(method: Any) -> str | list[str] | None:
    """The method, if it is one that there is; what is wrong with it is said when settings are checked."""
    try:
        parsed = parse_method(method)
        stages_of(parsed)
    except UserError:
        return None
    return parsed


def _one_share(checked: Mapping[str, Any]) -> float:
    """The share of conflicting training images, by whichever of skew and rho it was given."""
    skew, rho = checked["skew"], checked["rho"]
    if rho is None:
        return skew
    said = round(1 - rho, 12)
    if skew not in (said, default_for("skew", None, checked["dataset"])):
        raise UserError(f"rho={rho:g} and skew={skew:g} contradict each other; give one of them")
    return said


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
        stages = stages_of(checked["method"], last, checked["dataset"])
        for stage in stages:
            stage.check(checked)
        if command_name not in (*ON_IMAGES, "study") and checked["features"] != NONE:
            check_features(stages, checked)
    return {name: checked[name] for name in ("method", "skew") if name in config}


def resolve(config: Mapping[str, Any]) -> dict[str, Any]:
    """Checked settings as plain dicts, with what is read from the environment filled in."""
    return complete(check_settings(config))
