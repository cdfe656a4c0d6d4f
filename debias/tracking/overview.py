"""What the user should see of a data set before training on it: sizes, classes, counts, and what was left out."""

from collections.abc import Sequence

import torch
from rich.table import Table
from rich.text import Text

from debias.data.split import Split, Task
from debias.errors import UserError
from debias.stages.recipes import RECIPES, stages_of
from debias.training.stage import Stage

# Groups are counted one by one where there are not too many.
MAX_BIASES = 6


def overview(task: Task) -> list[Table | Text]:
    """A table of images by class and part, and for each bias of the training images; then the notes of the data set."""
    parts = {"train": task.train, task.selection: task.valid, "test": task.test}
    given: dict[str, Split] = {name: part for name, part in parts.items() if part is not None}
    _, height, width = task.picture_shape
    table = Table(title=Text(f"{task.name}: images of {width} x {height}"), title_justify="left", title_style="bold")
    table.add_column("class")
    for name in given:
        table.add_column(name, justify="right")
    biases = task.bias_names if task.train.bias is not None else None
    shown = biases if biases is not None and len(biases) <= MAX_BIASES else ()
    for name in shown:
        table.add_column(f"train, {name}", justify="right")
    counts = [torch.bincount(part.target.cpu(), minlength=task.n_targets).tolist() for part in given.values()]
    groups = _groups(task) if shown else [[] for _ in task.target_names]
    for target, name in enumerate(task.target_names):
        cells = [str(count[target]) for count in counts] + [str(count) for count in groups[target]]
        table.add_row(Text(name), *cells)
    if task.n_targets > 1:
        table.add_section()
        totals = [sum(count) for count in counts] + [sum(column) for column in zip(*groups, strict=True)]
        table.add_row("all", *(str(total) for total in totals))
    return [table, *(Text(note) for note in task.notes)]


def _groups(task: Task) -> list[list[int]]:
    """Training images [target][bias]."""
    assert task.train.bias is not None
    cell = task.train.target * task.n_biases + task.train.bias
    return torch.bincount(cell.cpu(), minlength=task.n_targets * task.n_biases).view(task.n_targets, -1).tolist()


def check_bias_labels(task: Task, stages: Sequence[Stage], method: object) -> None:
    """Refuse a method that needs bias labels on data that has none.

    Raises
    ------
    UserError
        Naming methods that need none.
    """
    needy = [stage.name for stage in stages if stage.needs_bias_labels]
    if needy and task.train.bias is None:
        free = [name for name in RECIPES if not any(stage.needs_bias_labels for stage in stages_of(name))]
        column = "; or give `labels` a column bias" if task.name == "own_images" else ""
        raise UserError(
            f"method={method} needs bias labels (stage {', '.join(needy)}), and {task.name} has none; "
            f"methods that need none: {', '.join(free)}{column}"
        )
