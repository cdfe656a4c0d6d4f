"""Command lines that are run on the pretended device: every recipe, every miner, every command, what varies a step."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from debias import main
from debias.stages.recipes import RECIPES, STAGES
from debias.training.loop import Loop
from tests.photos import class_folders
from tests.pipeline import short
from tests.pretended.device import pretended
from tests.pretended.marks import WrongDevice
from tests.pretended.seen import Seen

BASE = ("limit=200", "skew=0.2", "device=cuda", "threads=1", "progress=False", "pictures=False")
DATA = {"lntl": "jitter_digits", "lntl_pretrained": "jitter_digits", "fisher": "bimodal_digits"}


@dataclass(frozen=True)
class Case:
    """Command lines that are run in order.

    `{store}` in a word is the folder of runs, `{photos}` one of image files. An interrupted case is stopped after its
    first checkpoint and run again. What another case has stored is used, but not by one that `starts_anew`.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    interrupted: bool = False
    starts_anew: bool = False


def training(method: str, *words: str, epochs: int = 1, name: str = "", **also: bool) -> Case:
    """A case that trains each stage of a method for a few batches, with its own networks where no word says else."""
    plain = [word.replace("batch_size=128", "batch_size=32") for word in short(method, epochs) if "network" not in word]
    if method == "fisher":
        plain.append("fisher.n_samples=3")
    data = DATA.get(method, "colored_digits")
    return Case(name or method, (("with", f"dataset={data}", *plain, *words),), **also)


def _recipes() -> list[Case]:
    """With the pictures of a run, but for those whose pictures are drawn where runs are killed."""
    return [training(method, f"pictures={number % 6 != 0}") for number, method in enumerate(RECIPES)]


def _miners() -> list[Case]:
    """Those that no recipe has and that need no file."""
    used = {stage for recipe in RECIPES.values() for stage in recipe.stages}
    names = [n for n, stage in STAGES.items() if "conflict_score" in stage.gives and n not in used and n != "mine_file"]
    return [training(f"[pretrain,{name},prune,finetune]", name=name) for name in names]


def _variants() -> list[Case]:
    vectors = ("dataset=bimodal_digits", "lff.network=lenet", "group_dro.network=lenet")
    held_out = ("valid_fraction=0.2", "distill.teacher=valid")
    restarts = ("branches.restarts=1", "branches.restart_below=100", "branches.restart_after=1")
    return [
        training("fisher", "reference", name="fisher, as published"),
        *(
            training("erm_operator", f"augmented.operator={name}", name=f"erm_operator, {name}")
            for name in ("histogram", "amplitude_all", "detail", "blur", "noise", "compression", "size")
        ),
        training(
            "depth_transfer", "transfer.operator=channel_stats", "transfer.share=0.5", name="depth_transfer, some moved"
        ),
        training("lff", *vectors[:2], name="lff, vectors"),
        training("group_dro", *vectors[::2], name="group_dro, vectors"),
        training(
            "end", "dataset=biased_digits", "end.network=end_cnn_small", "end.pairs=half", name="end, half the pairs"
        ),
        training("denetdm", *held_out, *restarts, epochs=2, name="denetdm, begun again"),
        training("denetdm", "distill.steps=6", "distill.evaluate_every=3", name="denetdm, steps"),
        training("erm", "pretrain.decay_every=1", epochs=2, name="erm, a falling rate"),
        training("erm", "pretrain.batch_size=5", name="erm, many steps a graph"),
        training("denetdm", "adamw", name="denetdm, adamw"),
        training("denetdm", "sgd", name="denetdm, sgd"),
        training(
            "erm", "sgd", "pretrain.network=cnn", epochs=3, interrupted=True, starts_anew=True, name="interrupted, sgd"
        ),
        training("denetdm", epochs=3, interrupted=True, starts_anew=True, name="interrupted, adam"),
    ]


def _replicas() -> list[Case]:
    """Two seeds simultaneously; with what single runs have stored, one would be left."""
    words = ("dataset=bimodal_digits", "valid_fraction=0", "pretrain.network=lenet", "bfloat16=off")
    several = {name: training(name, "replicas=2") for name in ("denetdm", "lff")}
    several["convolutions"] = training("erm", *words, "replicas=2")
    return [replace(case, name=f"replicas, {name}", starts_anew=True) for name, case in several.items()]


def _photos() -> list[Case]:
    data = ("dataset=own_images", "data_dir={photos}", "image_size=32", "limit=None")
    sizes = ("pretrain.batch_size=16", "pretrain.network=cnn")
    branches = ("branches.shallow=cnn", "branches.deep=cnn", "distill.network=cnn")
    small = ("branches.batch_size=16", "distill.batch_size=16")
    weights = "checkpoint={store}/1/weights.safetensors"
    train = training("erm", *data, *sizes).commands[0]
    return [
        training("denetdm", *data, *branches, *small, "streaming=never", name="photos"),
        training("denetdm", *data, *branches, *small, "streaming=always", name="photos, streamed", starts_anew=True),
        Case("photos, predict and export", (
            train, ("predict", "with", *data, weights, "folder={photos}"), ("export", "with", weights),
        ), starts_anew=True),
    ]  # fmt: skip


def _commands() -> list[Case]:
    weights = "checkpoint={store}/1/weights.safetensors"
    data = ("dataset=colored_digits", "limit=600")
    return [
        Case("commands", (
            training("denetdm", *data, "csv_metrics=True", "pictures=True").commands[0],
            ("evaluate", "with", *data, weights),
            ("probe", "with", *data, weights, "pictures=True"),
            ("probe", "with", *data, weights, "probe_on=train"),
            ("samples", "with", *data, "pictures=True"),
        ), starts_anew=True),
    ]  # fmt: skip


CASES = {case.name: case for case in (*_recipes(), *_miners(), *_variants(), *_replicas(), *_photos(), *_commands())}


def run_case(case: Case, folder: Path, cache: Path, *words: str, strict: bool = True) -> tuple[list[int], Seen]:
    """Exit status of each command line (1 where a GPU refused), and what was seen.

    Parameters
    ----------
    case, words
        What is run, with further words for each of its command lines.
    folder
        Where its runs are stored, and image files made; stages that are found there are not run again.
    cache
        Where built data sets are kept.
    strict
        Whether what a GPU would refuse raises.
    """
    places = {"store": str(folder / "runs"), "photos": str(folder / "photos")}
    needs_photos = any("{photos}" in word for command in case.commands for word in command)
    if needs_photos and not (folder / "photos").exists():
        class_folders(folder / "photos", each=50)
    status: list[int] = []
    with pretended(strict) as seen:
        for command in case.commands:
            place = command.index("with") + 1
            line = [word.format(**places) for word in command]
            where = (f"cache_dir={cache}", f"store={places['store']}")
            # Own images have no skew to choose.
            base = [word for word in BASE if not ("dataset=own_images" in line and word.startswith("skew="))]
            line = [*line[:place], *base, *where, *line[place:], *words]
            if case.interrupted:
                status.append(_stopped([*line, "checkpoint_seconds=0"]))
            try:
                status.append(main.main(line))
            except WrongDevice:
                traceback.print_exc()
                status.append(1)
    return status, seen


def _stopped(words: Sequence[str]) -> int:
    """Run a command line until its first checkpoint has been written."""
    checkpoint = Loop.checkpoint

    def last(self: Loop) -> None:
        checkpoint(self)
        raise KeyboardInterrupt

    Loop.checkpoint = last  # type: ignore[method-assign]
    try:
        return main.main(list(words))
    finally:
        Loop.checkpoint = checkpoint  # type: ignore[method-assign]


def trained_stages(case: Case) -> list[str]:
    """The stages that a case trains, in order."""
    methods = [word.removeprefix("method=") for word in case.commands[0] if word.startswith("method=")]
    names = methods[0].strip("[]").split(",") if methods[0].startswith("[") else RECIPES[methods[0]].stages
    return [name for name in names if "epochs" in STAGES[name].settings]
