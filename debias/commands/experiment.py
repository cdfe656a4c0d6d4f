"""The experiment with its commands, and a command line run with it: what programs that run trials need too."""

import debias.waiting  # noqa: F401 - before torch

from collections.abc import Sequence
from pathlib import Path

from sacred.arg_parser import get_config_updates
from sacred.run import Run

from debias.commands import console
from debias.commands.diagnose import diagnose_data
from debias.commands.evaluate import evaluate_checkpoint
from debias.commands.export import export_checkpoint
from debias.commands.options import check_options
from debias.commands.predict import predict_folder
from debias.commands.probe import probe_checkpoint
from debias.commands.replicas import seeds_of, show_seeds
from debias.commands.review import USAGE
from debias.commands.samples import show_samples
from debias.commands.study import study_data
from debias.commands.sync import sync_runs
from debias.commands.train import train_recipe
from debias.commands.words import as_given, check_words_agree
from debias.config import DebiasExperiment, build_experiment
from debias.errors import UserError
from debias.settings import nearest
from debias.stages.recipes import STAGES

# Commands that train, and so take several seeds simultaneously.
TRAINING = ("train", "mine", *STAGES)


def build() -> DebiasExperiment:
    """The experiment with its commands: train, evaluate and one for each stage."""
    experiment = build_experiment()

    @experiment.main
    def train(_run: Run) -> float | None:
        """Run all stages of the method (the default command)."""
        if not _run.config["train"]:
            return evaluate_checkpoint(_run)
        return train_recipe(_run, last=None)

    @experiment.command
    def evaluate(_run: Run) -> float | None:
        """Print and record the full table of the weights in `checkpoint`."""
        return evaluate_checkpoint(_run)

    @experiment.command
    def probe(_run: Run) -> None:
        """Fit linear classifiers of target and bias on the frozen features of `checkpoint`."""
        probe_checkpoint(_run)

    @experiment.command
    def diagnose(_run: Run) -> None:
        """Say whether the images have a shortcut and what it is, without bias labels: rates, pictures, a verdict."""
        diagnose_data(_run)

    @experiment.command
    def study(_run: Run) -> None:
        """The whole way: name the shortcut, train what may help, choose without bias labels, and leave one page."""
        study_data(_run)

    @experiment.command
    def predict(_run: Run) -> None:
        """Write a table of classes and probabilities of the images in `folder`, by the weights in `checkpoint`."""
        predict_folder(_run)

    @experiment.command
    def export(_run: Run) -> None:
        """Write the final model of `checkpoint` alone: safetensors and JSON, torch.export, ONNX; and a card of it."""
        export_checkpoint(_run)

    @experiment.command
    def samples(_run: Run) -> None:
        """Draw some images of every class, of the training images and of each test set."""
        show_samples(_run)

    @experiment.command(unobserved=True)
    def sync(_run: Run) -> None:
        """Bring the runs in `store` into MongoDB (mongo_url, -m or MONGO_URL), each once."""
        sync_runs(_run.config, experiment.database)

    @experiment.command(unobserved=True)
    def review(_run: Run) -> None:
        """Serve a page on this machine on which the suspects of a run are looked at and marked: review RUN."""
        raise UserError(f"name the run: {USAGE}")

    experiment.command(_stage_command("mine", "finds the training images that look unusual for their class"))
    for stage in STAGES.values():
        experiment.command(_stage_command(stage.name, stage.summary))
    return experiment


def _stage_command(name: str, summary: str):
    def command(_run: Run) -> float | None:
        return train_recipe(_run, last=name)

    command.__name__ = name
    command.__doc__ = f"The recipe up to and including the stage {name}: {summary}."
    return command


def run_words(experiment: DebiasExperiment, words: Sequence[str]) -> None:
    """Run a command line; with `replicas`, then the runs of the other seeds, which find their stages in the store.

    A seed that fails leaves the others to be recorded; what went wrong with the first such is raised at the end.
    """
    words = as_given(words)
    before, failure = experiment.current_run, None
    try:
        experiment.run_commandline(["main.py", "--debug", *words])
    except UserError as error:
        failure = error
    first = experiment.current_run
    if first is None or first is before or first.config["replicas"] == 1 or _name(first) not in TRAINING:
        if failure is not None:
            raise failure
        return
    runs = [str(first._id)]
    for seed in seeds_of(first.config)[1:]:
        own = [*([] if "with" in words else ["with"]), f"seed={seed}", "replicas=1", "fresh=False"]
        try:
            run = experiment.run_commandline(["main.py", "--debug", *words, *own])
            runs += [] if run is None else [str(run._id)]
        except UserError as error:
            failure = failure or error
    show_seeds(Path(first.config["store"]), runs)
    if failure is not None:
        raise failure


def _name(run: Run) -> str:
    """Of the command that a run is of."""
    return str(run.main_function.__name__)


def check_words(experiment: DebiasExperiment, words: Sequence[str]) -> None:
    """Refuse what Sacred would answer with its whole usage: unknown commands, and settings without `with`."""
    if words and (not words[0].startswith("-") or words[0] == "-") and words[0] != "with":
        commands = dict(experiment.gather_commands())
        if words[0] not in commands:
            named = "=" in words[0] or any(words[0] in group for group in console.named_configs())
            hint = f"; write: python main.py with {' '.join(words)}" if named else nearest(words[0], commands)
            raise UserError(f"no command is called {words[0]!r}{hint}")
        if len(words) > 1 and words[1] != "with" and not words[1].startswith("-"):
            raise UserError(f"after the command comes `with`: python main.py {words[0]} with {' '.join(words[1:])}")
    check_words_agree(words)
    check_options(experiment, words)
    if words and words[-1] == "with":
        raise UserError(f"after `with` come settings: python main.py {' '.join(words)} seed=2")
    try:
        get_config_updates(words[words.index("with") + 1 :] if "with" in words else [])
    except TypeError as error:
        # a value was given to `a`, and then to `a.b`
        raise UserError("a group of settings is also given as one value; give its settings alone") from error
