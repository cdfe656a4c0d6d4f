"""What a miner found, for the user to look at: a table of suspects and a contact sheet."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from debias.data.split import Split, Task
from debias.harmless import cell
from debias.stages.common.scores import ranks_for, scores_for
from debias.tracking.pictures.plots import plot_images
from debias.training.artifacts import ConflictScore

# Classes on the sheet; the table has all of them.
MOST_SHOWN = 40


def write_suspects(
    folder: Path,
    task: Task,
    artifact: ConflictScore,
    each: int = 10,
    sheet: bool = True,
    more: Mapping[str, Sequence[str]] | None = None,
) -> list[Path]:
    """Write suspects.csv and, unless `sheet` is False, suspects.png (the top ones per class).

    The table has every training image: id, target, score, suspect, the log-odds of another class where the miner has
    them, by which images are ranked, and, where it comes from a file, the file's path and the digest of its content, by
    which `mine_file` knows it again when other files have come, gone or been moved.

    Parameters
    ----------
    folder
        Where the two files go.
    task
        The data that was mined.
    artifact
        What was mined.
    each
        Images of each class on the sheet.
    sheet
        Whether the picture is wanted.
    more
        Further columns by name: a cell for each training image.
    """
    train = task.train
    score, ranks = scores_for(artifact, train, "suspects").cpu(), ranks_for(artifact, train, "suspects").cpu()
    # Compared as tensors, as `flags_for` does: a float32 score is not the Python number that it prints as.
    flags = (score > artifact.threshold).tolist()
    table = folder / "suspects.csv"
    ids, targets = train.ids.tolist(), train.target.tolist()
    # Scores that are 1 to the last digit are told apart, and sorted again, by these.
    extra = ["log_odds"] if len(artifact.log_odds) else []
    with table.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        extra += more or ()
        writer.writerow(
            ["id", "target", "score", "suspect", *extra, *([] if task.files is None else ["path", "content"])]
        )
        for place in torch.argsort(ranks, descending=True, stable=True).tolist():
            name = task.target_names[targets[place]]
            odds = [f"{float(ranks[place]):.4f}"] if len(artifact.log_odds) else []
            odds += [cell(column[place]) for column in (more or {}).values()]
            file = []
            if task.files is not None:
                file = [cell(task.files[ids[place]]), "" if task.digests is None else task.digests[ids[place]]]
            writer.writerow([ids[place], cell(name), f"{float(score[place]):.6f}", int(flags[place]), *odds, *file])
    if not sheet:
        return [table]
    chosen = top_of_each_class(train, ranks, each)
    captions = [f"{task.target_names[targets[i]]}\n{float(score[i]):.3f}" for i in chosen.tolist()]
    picture = plot_images(
        train.shown[chosen],
        captions,
        title=f"{task.name}: highest conflict scores per class ({artifact.miner})",
        path=folder / "suspects.png",
        columns=each,
    )
    return [table, picture]


def top_of_each_class(train: Split, score: Tensor, each: int) -> Tensor:
    """Positions of the `each` highest scores of every target, target by target."""
    order = torch.argsort(score, descending=True, stable=True)
    ranked = train.target[order]
    return torch.cat([order[ranked == label][:each] for label in train.target.unique()[:MOST_SHOWN]])
