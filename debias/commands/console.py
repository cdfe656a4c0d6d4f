"""What users read in the terminal: tables and help on standard output, the rest on standard error."""

import contextlib
import io
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from sacred import Experiment

from debias.catalogue import documentation
from debias.config import NAMED_CONFIGS
from debias.data.operators import OPERATORS
from debias.data.registry import DATASETS
from debias.errors import UserError
from debias.harmless import plain
from debias.settings import nearest
from debias.stages.methods import command_of
from debias.stages.recipes import RECIPES, STAGES
from debias.vocabulary import FIGURES

_silent = False


def say(line: str) -> None:
    """A progress line; not captured into the record."""
    if not _silent:
        print(plain(line), file=sys.__stderr__, flush=True)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing is said and nothing shown, for programs that run a command as a function."""
    global _silent
    before, _silent = _silent, True
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        _silent = before


def named_configs() -> list[Collection[str]]:
    """Names of the named configs, kind by kind."""
    return [list(names) for names in NAMED_CONFIGS.values()]


def figures_table(summary: Mapping[str, float], title: str) -> Table:
    """Rows of read-outs, columns of figures (%), one block a selection."""
    read: dict[tuple[str, str], dict[str, float]] = {}
    for name, value in summary.items():
        read_out, figure, selection = name.split("/")
        if f"{read_out}/average/{selection}" in summary and figure in FIGURES:
            read.setdefault((selection, read_out), {})[figure] = value
    used = [figure for figure in FIGURES if any(figure in row for row in read.values())]
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    table.add_column("selection")
    table.add_column("read-out")
    for figure in used:
        table.add_column(figure, justify="right")
    earlier = None
    for (selection, read_out), row in sorted(read.items(), key=lambda item: item[0][0]):
        if earlier not in (None, selection):
            table.add_section()
        label = selection if selection != earlier else ""
        earlier = selection
        table.add_row(label, read_out, *(f"{row[figure]:.2f}" if figure in row else "–" for figure in used))
    return table


def other_figures(summary: Mapping[str, float]) -> list[str]:
    """A line for each figure that is not a test accuracy: whether branches specialised, what was mined or pruned."""
    said = {
        "separation/corrected/last": "the shallow branch corrects {:.1f} % of the deep one's training mistakes",
        "separation/conflicting/last": "the shallow branch is {:.1f} points ahead on conflicting test images",
        "mined/share/train": "{:.2f} % of the training images are suspects",
        "mined/precision/train": "precision of the suspects {:.1f} % (read off true bias labels)",
        "mined/recall/train": "recall of the suspects {:.1f} %",
        "mined/average_precision/train": "average precision of the conflict score {:.1f} %",
        "pseudo_bias/accuracy/train": "{:.2f} % of the pseudo bias labels are right",
        "pseudo_bias/conflicting/train": "{:.2f} % of those of conflicting images",
        "information_share/image/first": "the image has {:.1f} % of the Fisher information in the first epoch",
        "information_share/image/last": "and {:.1f} % in the last one",
        "sparsity/all/last": "{:.1f} % of the gated weights are pruned",
    }
    return [text.format(summary[name]) for name, text in said.items() if name in summary]


def show(*parts: Any) -> None:
    """Print tables and texts to standard output, as wide as the terminal allows and at least 100 columns in a file."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 110)
    for part in parts:
        if isinstance(part, Text) and plain(part.plain) != part.plain:
            part = Text(plain(part.plain))
        console.print(part)


def _about_data_set(name: str, docs: Mapping[str, str]) -> list[str]:
    """Lines about a data set: what it is, its own settings, and the values that it brings."""
    spec = DATASETS[name]
    brought = {**spec.kind.defaults, **spec.defaults}
    own = [*(["skew"] if spec.has_skew else []), *dict.fromkeys((*spec.settings, *spec.kind.settings))]
    return [
        f"data set {name}: {spec.summary}",
        f"  kind: {spec.kind.name}",
        f"  training images are changed by: {spec.augment or 'nothing'}",
        *([f"  sets: {', '.join(f'{path}={value}' for path, value in brought.items())}"] if brought else []),
        *(f"  {setting}: {docs[setting]}" for setting in own),
    ]


def _about_method(name: str) -> Iterator[str]:
    """What a recipe says of itself, a fact a line."""
    recipe = RECIPES[name]
    yield f"method {name}: {recipe.summary}"
    yield f"  stages: {', '.join(recipe.stages)}"
    for what, text in (
        ("paper", " ".join(part for part in (recipe.paper, recipe.link) if part)),
        ("command", command_of(name)),
        ("a run takes", recipe.cost),
        ("expected", recipe.expected),
        ("sets", ", ".join(f"{path}={value}" for path, value in recipe.values.items())),
    ):
        if text:
            yield f"  {what}: {text}"


def show_help(experiment: Experiment, usage: str, words: Sequence[str]) -> None:
    """Commands, data sets, methods, named configs; or, for the name of one of these, or of an operator, what it is."""
    docs = documentation()
    commands = dict(experiment.gather_commands())
    for word in words:
        if word in RECIPES:
            show(*(Text(line) for line in _about_method(word)))
        if word in DATASETS:
            show(*(Text(line) for line in _about_data_set(word, docs)))
        if word in OPERATORS:
            show(Text(f"operator {word}: {OPERATORS[word].summary}"))
        if word in docs or word in commands:
            text = docs.get(word) or (commands[word].__doc__ or "").strip()
            show(Text(f"{word}: {text}"))
            for path, line in docs.items():
                if path.startswith(f"{word}."):
                    show(Text(f"  {path}: {line}"))
        elif not any(word in names for names in (RECIPES, DATASETS, OPERATORS)):
            known = [*docs, *commands, *RECIPES, *DATASETS, *OPERATORS]
            raise UserError(f"{word!r} is unknown{nearest(word, known)}")
    if words:
        return
    show(Text(usage.strip()))
    lists: dict[str, Mapping[str, str]] = {
        "Data sets": {name: spec.summary for name, spec in DATASETS.items()},
        "Methods": {name: f"{recipe.summary}  [{', '.join(recipe.stages)}]" for name, recipe in RECIPES.items()},
        "Stages (also commands)": {stage.name: stage.summary for stage in STAGES.values()},
        "Named configs": {kind: ", ".join(names) for kind, names in NAMED_CONFIGS.items()},
        "Settings (NAME=VALUE after `with`)": {
            name: docs[name] for name in docs if "." not in name and name not in STAGES
        },
    }
    for title, rows in lists.items():
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
        for name, text in rows.items():
            table.add_row("  " + name, Text(text))
        show(Text(f"\n{title}", style="bold"), table)
    show(Text("\nSettings of a stage: python main.py help STAGE. Any setting: python main.py print_config"))
