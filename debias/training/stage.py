"""What a stage is, and what it is given to work with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch

from debias.data.split import Split, Task
from debias.settings import Setting
from debias.training.artifacts import Artifact, BiasLabels, Inputs
from debias.training.store import StageFolder

Settings = Mapping[str, Any]


class Together(Protocol):
    """Where the trainings of several runs meet to be done simultaneously (`training.replicas`)."""

    def fit(self, job: Any, ctx: "Context") -> Any:
        """`fit.fit` of a job, beside those of the other runs."""


@dataclass
class Context:
    """A stage's surroundings while it runs.

    Parameters
    ----------
    task
        The data, on the device.
    settings
        All settings of the run; `own` gives the stage's group.
    stage
        Name of the running stage.
    device, seed
        Where it runs, and the run's seed.
    folder
        Where its checkpoints are.
    log
        Takes (metric name, value, epoch).
    say
        Takes a line for the user.
    bias_declared
        Whether the stage declared that it needs bias labels.
    exact
        Whether the running stage keeps to float32 unless bfloat16 is asked for.
    imagenet_weights
        File of the weights that pre-trained networks start from; None where no stage of the run has such a network.
    held_out_bias
        Pseudo bias labels of the held-out training images, as an earlier stage of the run gave them; None without any.
    generator
        The running epoch's generator on the device; what a loss draws at random, it draws from it.
    together
        Where the trainings of several seeds meet; None for a run by itself.
    """

    task: Task
    settings: Settings
    stage: str
    device: torch.device
    seed: int
    folder: StageFolder
    log: Callable[[str, float, int], None]
    say: Callable[[str], None]
    progress: bool = True
    checkpoint_seconds: float = 30.0
    bias_declared: bool = False
    exact: bool = False
    imagenet_weights: Path | None = None
    held_out_bias: BiasLabels | None = None
    generator: torch.Generator | None = None
    together: Together | None = None

    @property
    def own(self) -> Settings:
        """The settings of the running stage."""
        return self.settings[self.stage]

    @property
    def train(self) -> Split:
        """The training images: with bias labels only for a stage that declared its need of them."""
        return self.task.train if self.bias_declared else self.task.train.without_bias()


class Stage:
    """One step of a recipe. A new one is a file in this folder and a line in `recipes.py`.

    Class attributes
    ----------------
    name
        Its name in recipes, its group of settings and its command.
    summary
        One line for help.
    needs, gives
        Names of the artifacts it takes and makes.
    read_outs
        Names of the logits that it reports, its own model's first; none when it trains nothing.
    uses
        Names of artifacts that it takes when an earlier stage made them.
    needs_bias_labels
        Whether it reads bias labels of training images; results then say so.
    takes_vector
        Whether it can train on data with a second modality (`Split.vector`).
    takes_features
        Whether it can train on features of a pretrained network in place of images.
    settings
        Its settings by name.
    exact
        Whether its result depends on the last bits of gradients, so that only the user turns bfloat16 on.
    shared
        Names of run-level settings that change its result.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[str, ...]]
    read_outs: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ()
    needs_bias_labels: ClassVar[bool] = False
    exact: ClassVar[bool] = False
    takes_vector: ClassVar[bool] = False
    takes_features: ClassVar[bool] = True
    settings: ClassVar[Mapping[str, Setting]]
    shared: ClassVar[tuple[str, ...]] = ("optimiser",)

    def check(self, settings: Settings) -> None:
        """Refuse, with a UserError, settings of the run under which the stage cannot work; called before any work."""

    def content(self, settings: Settings) -> str | None:
        """A digest of the files that the settings name, for the key under which the result is stored."""
        return None

    def run(self, inputs: Inputs, ctx: Context) -> dict[str, Artifact]:
        """Compute the artifacts named in `gives`, and a `report` (`training.artifacts.Report`)."""
        raise NotImplementedError
