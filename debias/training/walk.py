"""Runs the stages of a recipe: reuse what is stored, continue what was interrupted, compute the rest."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from debias.data.mapped import MappedImages
from debias.data.split import Task
from debias.digests import digest, digest_of_file
from debias.errors import GivenUp, UserError
from debias.models.onfeatures import TAKES
from debias.models.pretrained import find_weights, starts_from_imagenet
from debias.models.registry import FLAT
from debias.training.artifacts import Artifact, BiasLabels, Report, take
from debias.training.captured import check_capture
from debias.training.code import code_digest
from debias.training.diverged import check_losses, check_weights
from debias.training.heldout import HELD_OUT_BIAS
from debias.training.machine import prepare_cpu
from debias.training.repeatable import prefer_deterministic
from debias.training.speed import SPEED_SETTINGS, check_compiler
from debias.training.stage import Context, Settings, Stage, Together
from debias.training.store import StageFolder, Store

# Settings of stages that name a network.
_NETWORKS = ("network", "shallow", "deep")


@dataclass(frozen=True)
class Finished:
    """A stage that a run has passed: its key, whether it was reused, the seconds this took, and its report."""

    key: str
    reused: bool
    seconds: float
    needs_bias_labels: bool
    report: Report


@dataclass
class Outcome:
    """What a recipe gave: its artifacts by name, and its stages by name and in order."""

    artifacts: dict[str, Artifact] = field(default_factory=dict)
    stages: dict[str, Finished] = field(default_factory=dict)

    @property
    def summary(self) -> dict[str, float]:
        """Figures of all stages by <read-out>/<figure>/<selection>, in percent.

        Where a later stage has a read-out of the same name, that of the earlier one stands behind its stage's name, as
        in pretrain.model/unbiased/last.
        """
        found: dict[str, float] = {}
        for number, (stage, about) in enumerate(self.stages.items()):
            later = list(self.stages.values())[number + 1 :]
            taken = {name for other in later for name in other.report.matrices.get("last", {})}
            for name, value in about.report.summary.items():
                found[f"{stage}.{name}" if name.partition("/")[0] in taken else name] = value
        return found


def run_stages(
    stages: Sequence[Stage],
    task: Task,
    settings: Settings,
    device: torch.device,
    store: Store,
    *,
    log: Callable[[str, float, int], None] = lambda name, value, step: None,
    say: Callable[[str], None] = print,
    progress: bool = True,
    begun: Callable[[str, str], None] = lambda stage, key: None,
) -> Outcome:
    """Run stages in order, each at most once for its key.

    Parameters
    ----------
    stages
        As checked by `recipes.stages_of`.
    task
        The data; it is moved to `device` whole.
    settings
        All settings of the run.
    store
        Where finished stages are looked up and stored.
    log, say, progress
        Take metrics and lines for the user; whether to draw progress bars.
    begun
        Takes name and key of each stage before it is looked up or computed.

    Raises
    ------
    UserError
        The data has a second modality and a stage cannot use it.
    """
    walk = Walk(stages, task, settings, device, store, log=log, say=say, progress=progress, begun=begun)
    for stage in stages:
        walk.advance(stage)
    return walk.outcome


class Walk:
    """One run's way through its stages, one by one; parameters and errors as of `run_stages`.

    together : where several runs meet to train simultaneously (`Context.together`)
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        task: Task,
        settings: Settings,
        device: torch.device,
        store: Store,
        *,
        log: Callable[[str, float, int], None] = lambda name, value, step: None,
        say: Callable[[str], None] = print,
        progress: bool = True,
        begun: Callable[[str, str], None] = lambda stage, key: None,
        together: Together | None = None,
    ) -> None:
        if task.vector_size and (blind := [stage.name for stage in stages if not stage.takes_vector]):
            raise UserError(
                f"{task.name} has a second modality beside the image, which the stage {blind[0]} cannot use; "
                "method=erm can"
            )
        if task.features is not None:
            check_features(stages, settings)
        prepare_cpu()
        self.settings = settings
        self.outcome = Outcome()
        self._task, self._device, self._store = task, device, store
        self._log, self._say, self._progress, self._together = log, say, progress, together
        self._begun = begun
        # Before anything is trained: the last stage may be the one that needs them.
        self._weights = imagenet_weights(stages, settings)
        if settings.get("compile") == "on":
            # What a compiler keeps for the next time belongs to the cache, not to the temporary files.
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(settings["cache_dir"]).absolute() / "compiled"))
            check_compiler(device)
        check_capture(settings, device)
        self._keys: dict[str, str] = {}
        self._on_device: Task | None = None

    def advance(self, stage: Stage) -> None:
        """Reuse, continue or compute one stage, and take its artifacts into the outcome."""
        settings, say = self.settings, self._say
        key = stage_key(stage, self._task, settings, self._device, self._keys, self._weights)
        self._begun(stage.name, key)
        folder = self._store.folder(stage.name, key)
        started = time.monotonic()
        with folder.locked(say):
            if settings["fresh"]:
                folder.clear()
            result = folder.load_result(stage.gives)
            reused = result is not None
            if result is None:
                prefer_deterministic(self._device, exact=stage.exact)
                try:
                    result = stage.run(self.outcome.artifacts, self._context(stage, folder))
                except GivenUp:
                    # A search prunes half of its trials: their checkpoints would fill the disk, and none is needed.
                    folder.drop_checkpoint()
                    raise
                try:
                    check_losses(stage.name, take(result, "report", Report).history)
                    check_weights(stage.name, result)
                except UserError:
                    folder.drop_checkpoint()
                    raise
                folder.save_result(
                    result, {"stage": stage.name, "key": key, "seed": settings["seed"], "data": self._task.key}
                )
            else:
                # Of a process that was killed just after it had stored the result.
                folder.drop_checkpoint()
                say(f"{stage.name}: finished before, reused ({folder.path.name})")
                _relog(stage.name, take(result, "report", Report).history, self._log)
        self.outcome.artifacts |= {name: artifact for name, artifact in result.items() if name != "report"}
        self.outcome.stages[stage.name] = Finished(
            key=key,
            reused=reused,
            seconds=time.monotonic() - started,
            needs_bias_labels=stage.needs_bias_labels,
            report=take(result, "report", Report),
        )
        self._keys |= dict.fromkeys(stage.gives, key)

    def _held_out_bias(self) -> BiasLabels | None:
        made = self.outcome.artifacts
        return take(made, HELD_OUT_BIAS, BiasLabels) if HELD_OUT_BIAS in made else None

    def _context(self, stage: Stage, folder: StageFolder) -> Context:
        if self._on_device is None:
            self._on_device = self._task.to(self._device)
            _say_where(self._on_device, self._say)
        return Context(
            task=self._on_device,
            settings=self.settings,
            stage=stage.name,
            device=self._device,
            seed=self.settings["seed"],
            folder=folder,
            log=self._log,
            say=self._say,
            progress=self._progress,
            checkpoint_seconds=self.settings["checkpoint_seconds"],
            bias_declared=stage.needs_bias_labels,
            exact=stage.exact,
            imagenet_weights=self._weights,
            held_out_bias=self._held_out_bias(),
            together=self._together,
        )


def check_features(stages: Sequence[Stage], settings: Settings) -> None:
    """Refuse stages and networks that need images, on features of a pretrained network.

    Raises
    ------
    UserError
        Naming one, and what to do.
    """
    for stage in stages:
        if not stage.takes_features:
            raise UserError(f"the stage {stage.name} acts on images, and features are set: set features=none")
        for name in _NETWORKS:
            network = settings[stage.name].get(name)
            if network is not None and network not in FLAT:
                raise UserError(
                    f"{stage.name}.{name}={network} is for images, and features are set: choose {', '.join(FLAT)}, or "
                    "set features=none"
                )
            if network in TAKES and settings["features"].partition("@")[0] != TAKES[network]:
                raise UserError(
                    f"{stage.name}.{name}={network} is trained on what comes before it: set features={TAKES[network]}"
                )


def _say_where(task: Task, say: Callable[[str], None]) -> None:
    images = task.train.images
    if isinstance(images, MappedImages):
        say(f"training images: {images.nbytes / 2**30:.2f} GiB, streamed from the cache to {images.device.type}")


def imagenet_weights(stages: Sequence[Stage], settings: Settings) -> Path | None:
    """The file of ImageNet's weights, where a stage has a network that starts from them.

    Raises
    ------
    UserError
        When it is neither found nor to be downloaded.
    """
    starting = {
        f"{stage.name}.{name}": settings[stage.name][name] for stage in stages for name in _pretrained(stage, settings)
    }
    if not starting:
        return None
    instead = " ".join(f"{name}={network.replace('_imagenet', '')}" for name, network in starting.items())
    return find_weights(settings["imagenet_weights"], settings["data_dir"], settings["cache_dir"], instead)


def _pretrained(stage: Stage, settings: Settings) -> list[str]:
    """The settings of a stage that name a network which starts from ImageNet's weights."""
    own = settings[stage.name]
    return [name for name in _NETWORKS if name in own and starts_from_imagenet(own[name])]


def stage_key(
    stage: Stage,
    task: Task,
    settings: Settings,
    device: torch.device,
    input_keys: Mapping[str, str],
    weights: Path | None = None,
) -> str:
    """The name of everything that decides a stage's result."""
    start = digest_of_file(weights)[:16] if weights is not None and _pretrained(stage, settings) else None
    inputs = [*stage.needs, *stage.uses]
    if stage.read_outs and task.valid is not None:
        inputs.append(HELD_OUT_BIAS)  # by which the loop selects
    return digest(
        {
            "stage": stage.name,
            "settings": dict(settings[stage.name]),
            "content": stage.content(settings),
            "shared": {name: settings[name] for name in stage.shared},
            "inputs": {name: input_keys[name] for name in inputs if name in input_keys},
            "data": task.key,
            "seed": settings["seed"],
            "code": code_digest(type(stage).__module__, type(stage).__qualname__, _words(stage, task, settings)),
            "torch": torch.__version__,
            "device": device.type,
            "start": start,
            "speed": [settings[name] for name in SPEED_SETTINGS],
        }
    )


def _words(stage: Stage, task: Task, settings: Settings) -> frozenset[str]:
    """What a stage's settings and its data name, among it networks, optimisers and augmentations."""
    values = [*settings[stage.name].values(), *(settings[name] for name in stage.shared), task.augment]
    return frozenset(value for value in values if isinstance(value, str))


def _relog(stage: str, history: Sequence[Mapping[str, float]], log: Callable[[str, float, int], None]) -> None:
    for row in history:
        for name, value in row.items():
            if name != "epoch":
                log(f"{stage}/{name}", value, int(row["epoch"]))
