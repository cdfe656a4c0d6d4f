"""docs/reference.md, and the table of methods in the README, from the registries: `python -m scripts.reference`.

Names, values and papers are written where their owners are (`data/`, `stages/`, `catalogue.py` and `config.py` in
`debias/`). A test fails when a document says something else.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from debias.catalogue import RUN_SETTINGS
from debias.commands.experiment import build
from debias.config import NAMED_CONFIGS
from debias.data.kinds import KINDS
from debias.data.registry import DATASETS
from debias.errors import UserError
from debias.models.backbone import Backbone
from debias.models.lastblock import PARTS, LastBlock
from debias.models.onfeatures import EARLY, TAKES
from debias.models.registry import BACKBONES
from debias.settings import Setting
from debias.stages.methods import command_of
from debias.stages.recipes import RECIPES, STAGES, stages_of
from debias.training.stage import Stage

ROOT = Path(__file__).resolve().parent.parent
REFERENCE, README = Path("docs/reference.md"), Path("README.md")
OPENING, CLOSING = "<!-- methods: python -m scripts.reference -->\n", "<!-- end of methods -->"
NOTHING = "–"

HEAD = """# Reference

Every name the program knows, generated from its registries by `python -m scripts.reference`. `python main.py help NAME`
prints the same about one name, and `python main.py print_config with …` prints the values a command would use.
"""
# What a command does that is not a step of a recipe is said by its docstring; these are commands of Sacred.
_SACRED = ("print_config", "print_dependencies", "save_config", "print_named_configs")


def reference() -> str:
    """The whole document."""
    parts = [HEAD, _contents(), *(f"## {title}\n\n{body}\n" for title, body in _sections().items())]
    return "\n".join(parts)


def _sections() -> dict[str, str]:
    return {
        "Commands": _commands(),
        "Data sets": _data_sets(),
        "Methods": _methods(),
        "Stages": _stages(),
        "Settings": _settings(),
        "Named configs": _named_configs(),
        "Networks": _networks(),
    }


def _contents() -> str:
    return "\n".join(f"* [{title}](#{title.lower().replace(' ', '-')})" for title in _sections()) + "\n"


def methods_table() -> str:
    """Methods for a reader who has to choose one: bias labels or not, what a run takes, and the paper."""
    rows = []
    for name, recipe in sorted(RECIPES.items(), key=lambda item: (_needs_labels(item[0]), not item[1].paper)):
        paper = f"[{recipe.paper}]({recipe.link})" if recipe.link else recipe.paper or "this project"
        labels = "needed" if _needs_labels(name) else "not needed"
        rows.append([f"`{name}`", recipe.summary, labels, recipe.cost or NOTHING, paper])
    return _table(["method", "what it does", "bias labels", "a run takes", "paper"], rows)


def with_methods(text: str) -> str:
    """The README with its table of methods."""
    head, rest = text.split(OPENING)
    return f"{head}{OPENING}\n{methods_table()}\n\n{CLOSING}{rest.split(CLOSING)[1]}"


def _needs_labels(method: str) -> bool:
    return any(stage.needs_bias_labels for stage in stages_of(method))


def _commands() -> str:
    found = dict(build().gather_commands())
    rows = []
    for name, command in found.items():
        if name in STAGES or name in _SACRED:
            continue
        rows.append([f"`{name}`", _first_line(command)])
    rows.append(["`print_config`", "Print every setting with its value and meaning; nothing is run."])
    text = (
        "`python main.py COMMAND with …`; without a command, `train`. The name of any [stage](#stages) is a command as "
        "well: it runs the method up to and including that stage."
    )
    return text + "\n\n" + _table(["command", "what it does"], rows)


def _data_sets() -> str:
    rows = []
    for spec in DATASETS.values():
        own = [name for name in RUN_SETTINGS if name not in ("skew", "rho") and spec.has(name)]
        skew = _value(spec.default("skew", RUN_SETTINGS["skew"]), RUN_SETTINGS["skew"]) if spec.has_skew else NOTHING
        rows.append([f"`{spec.name}`", spec.summary, spec.kind.name, skew, _ticked(own)])
    table = _table(["data set", "what it is", "kind", "`skew`", "settings of its own"], rows)
    text = (
        "`skew` is the default share of conflicting training images (– where the images decide). What a kind of data "
        "brings, `network` to every stage that trains one:"
    )
    brought = []
    for kind in KINDS.values():
        values = [f"`{path}={_plain(value)}`" for path, value in kind.defaults.items()]
        quick = [f"`{path}={_plain(value)}`" for path, value in kind.quick.items()]
        brought.append([f"{kind.name}", ", ".join(values) or NOTHING, ", ".join(quick) or NOTHING])
    return f"{table}\n\n{text}\n\n" + _table(["kind", "defaults", "under `quick`"], brought)


def _methods() -> str:
    parts = [
        "The stages of each method, in order, and what it sets in them. Values hold on every data set unless a kind of "
        "data or a data set is named.",
    ]
    for name, recipe in RECIPES.items():
        lines = [f"### {name}", "", f"{_sentence(recipe.summary)}", ""]
        lines.append(f"* Stages: {_arrow(recipe.stages)}.")
        lines.append(f"* Bias labels of training images: {'needed' if _needs_labels(name) else 'not needed'}.")
        if recipe.paper:
            lines.append(f"* Paper: {f'[{recipe.paper}]({recipe.link})' if recipe.link else recipe.paper}.")
        lines.append(f"* Command: `{command_of(name)}`.")
        if recipe.cost:
            lines.append(f"* A run takes: {recipe.cost}.")
        if recipe.expected:
            lines.append(f"* Expected: {recipe.expected}.")
        if recipe.values:
            lines.append(f"* Sets {_assignments(recipe.values)}.")
        for where, other in recipe.on.items():
            said = [f"stages {_arrow(other.stages)}"] if other.stages else []
            said += [f"sets {_assignments(other.values)}"] if other.values else []
            lines.append(f"* On {where}: {'; '.join(said)}.")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _stages() -> str:
    parts = [
        'A method of your own is a list of stages, `method="[pretrain, mine_wrong, finetune]"`: every artifact that a '
        "stage needs must be given by an earlier one. Settings are written `STAGE.NAME=VALUE`."
    ]
    for stage in STAGES.values():
        lines = [f"### Stage {stage.name}", "", _sentence(stage.summary), "", *_artifacts(stage)]
        if stage.settings:
            lines += ["", _settings_table(stage.settings, f"{stage.name}.")]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _artifacts(stage: Stage) -> Iterator[str]:
    yield f"* Needs: {_ticked(stage.needs)}; gives: {_ticked(stage.gives)}."
    if stage.uses:
        yield f"* Uses, where an earlier stage gives it: {_ticked(stage.uses)}."
    if stage.read_outs:
        yield f"* Read-outs: {_ticked(stage.read_outs)}."
    if stage.needs_bias_labels:
        yield "* Reads the bias labels of training images; results say so."


def _settings() -> str:
    text = (
        "Written `NAME=VALUE` after `with`. Defaults hold unless a [kind of data](#data-sets) or a [method](#methods) "
        "brings others."
    )
    return f"{text}\n\n{_settings_table(RUN_SETTINGS)}"


def _settings_table(settings: Mapping[str, Setting], prefix: str = "") -> str:
    rows = []
    for name, setting in settings.items():
        default = f"`{_plain(setting.default)}`"
        if setting.quick is not None and not isinstance(setting.quick, Mapping):
            default += f" (`quick`: `{_plain(setting.quick)}`)"
        rows.append([f"`{prefix}{name}`", default, setting.help, setting.accepted(), _search(setting)])
    searched = any(row[4] != NOTHING for row in rows)
    heads = ["setting", "default", "meaning", "accepted", *(["searched in"] if searched else [])]
    return _table(heads, [row[: len(heads)] for row in rows])


def _search(setting: Setting) -> str:
    if setting.search is None:
        return NOTHING
    kind, *ends = setting.search
    values = ends[0] if kind == "choice" else ends
    return f"{kind} {', '.join(_plain(value) for value in values)}"


def _named_configs() -> str:
    rows = []
    for kind, names in NAMED_CONFIGS.items():
        if kind in ("data set", "method", "optimiser"):
            rows.append([kind, "the names of its " + ("table above" if kind != "optimiser" else "choices"), NOTHING])
            rows[-1][1] = _ticked(names) if kind == "optimiser" else f"every [{kind}](#{kind.replace(' ', '-')}s)"
            rows[-1][2] = f"`{next(iter(next(iter(names.values()))))}`"
            continue
        for name, values in names.items():
            rows.append([kind, f"`{name}`", _assignments(_flat(values))])
    text = "Written after `with`, at most one of each kind: `python main.py with colored_mnist skewed1 severity4`."
    return f"{text}\n\n" + _table(["kind", "name", "sets"], rows)


def _networks() -> str:
    rows = []
    for name, make in BACKBONES.items():
        if name in TAKES:
            # Of the features of images of 32 pixels.
            network: Backbone = LastBlock(name, (PARTS[name].channels + EARLY, 1, 1))
            size = f"`features={TAKES[name]}`"
        else:
            network, side = _smallest(make)
            size = f"{side} x {side}"
        weights = sum(parameter.numel() for parameter in network.parameters())
        rows.append([f"`{name}`", _first_line(type(network)), f"{network.features:,}", f"{weights:,} at {size}"])
    text = (
        "Backbones for settings such as `pretrain.network` and `branches.deep`, each followed by a linear classifier. "
        "Weights are counted for colour images of the size given, without the classifier. Names with `_imagenet` start "
        "from ImageNet's weights."
    )
    return f"{text}\n\n" + _table(["network", "what it is", "features", "weights"], rows)


def _smallest(make: Callable[[tuple[int, int, int]], Backbone]) -> tuple[Backbone, int]:
    """A network for the smallest usual images that it takes, and their side in pixels."""
    for side in (28, 32, 224):
        try:
            return make((3, side, side)), side
        except UserError:
            continue
    raise ValueError("a network takes none of the usual image sizes")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _assignments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"`{path}={_plain(value)}`" for path, value in values.items())


def _arrow(stages: Sequence[str]) -> str:
    return " → ".join(f"[`{name}`](#stage-{name})" for name in stages)


def _ticked(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}`" for name in names) or NOTHING


def _value(found: tuple[bool, Any], setting: Setting) -> str:
    return _plain(found[1] if found[0] else setting.default)


def _plain(value: Any) -> str:
    """A value as it is written on a command line."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").strip().splitlines()[0]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [[text.replace("|", "\\|") for text in row] for row in (heads, *rows)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (cells[0], ["---"] * len(heads), *cells[1:]))


def main() -> int:
    """Write both documents."""
    (ROOT / REFERENCE).write_text(reference(), encoding="utf-8")
    readme = ROOT / README
    readme.write_text(with_methods(readme.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{REFERENCE} and the table of methods in {README} are written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
