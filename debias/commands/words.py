"""Words of the command line before Sacred reads them: texts stay the texts they are, and ~ is the home folder."""

from __future__ import annotations

import ast
import os
from collections.abc import Sequence
from pathlib import Path

from debias.catalogue import RUN_SETTINGS, known_settings
from debias.commands.console import say
from debias.config import NAMED_CONFIGS
from debias.data.registry import DATASETS
from debias.errors import UserError

PATHS = (
    "store", "cache_dir", "data_dir", "labels", "checkpoint", "folder", "output", "imagenet_weights", "frost_dir",
    "mine_file.path",
)  # fmt: skip


def as_given(words: Sequence[str]) -> list[str]:
    """The words with values of text settings quoted where Python would read a number: data_dir=2024_01 is a folder."""
    known = known_settings()
    start = words.index("with") + 1 if "with" in words else len(words)
    texts = {path for path, setting in known.items() if (setting.kind or type(setting.default)) is str}
    return [*words[:start], *(_given(word, texts) for word in words[start:])]


def check_words_agree(words: Sequence[str]) -> None:
    """Refuse words that contradict each other, of which one would win in silence.

    Raises
    ------
    UserError
        A setting that a named config gives another value, a skew beside another rho, or a skew of a data set that has
        one share of conflicting images. Of settings that are set twice one line says which values count.
    """
    words = list(words[words.index("with") + 1 :]) if "with" in words else []
    for word in words:
        name = word.partition("=")[0].strip()
        if not name or ("=" in word and "" in name.split(".")):
            raise UserError(f"{word!r} is neither NAME=VALUE nor a named config")
    given: dict[str, tuple[object, str]] = {}
    replaced: set[str] = set()
    for word in words:
        path, sign, text = word.partition("=")
        for name, value in {path.strip(): _value(text)}.items() if sign else _named(word).items():
            known = given.setdefault(name, (value, word))
            # Two named configs of one kind are refused where they are looked up.
            if known[0] == value or (not sign and "=" not in known[1]):
                continue
            if not sign or "=" not in known[1]:
                raise UserError(f"{known[1]} and {word} contradict each other; give one of them")
            # As in scripts, whose common settings are followed by a run's own.
            replaced.add(name)
            given[name] = (value, word)
    if replaced:
        say(f"given more than once, of which the last counts: {', '.join(given[name][1] for name in sorted(replaced))}")
    skew, rho = given.get("skew"), given.get("rho")
    if skew is not None and rho is not None and _differ(skew[0], rho[0]):
        raise UserError(f"{rho[1]} and {skew[1]} contradict each other, as rho is 1 - skew; give one of them")
    dataset = str(given.get("dataset", (RUN_SETTINGS["dataset"].default, ""))[0])
    share = skew or rho
    if share is not None and dataset in DATASETS and not DATASETS[dataset].has_skew:
        raise UserError(
            f"{share[1]}: no setting chooses the share of conflicting images of {dataset}; its images are what they "
            "are, so leave it out"
        )


def _check_path(name: str, text: str) -> None:
    """Refuse what no file can be called."""
    if not text.strip("'\""):
        raise UserError(f"setting {name}: it is empty; leave it out, or give a path")
    if len(os.fsencode(text)) > 4095 or any(len(os.fsencode(part)) > 255 for part in text.split("/")):
        raise UserError(f"setting {name}: {text[:60]}... is too long for a path")
    if "\0" in text:
        raise UserError(f"setting {name}: a path has no character NUL")


def _named(word: str) -> dict[str, object]:
    """What a named config sets, where it is one setting: others are starting points, which may be changed."""
    sets = next((names[word] for names in NAMED_CONFIGS.values() if word in names), {})
    return sets if len(sets) == 1 and not isinstance(next(iter(sets.values())), dict) else {}


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text.strip()


def _differ(skew: object, rho: object) -> bool:
    numbers = isinstance(skew, int | float) and isinstance(rho, int | float)
    return numbers and abs(1 - float(rho) - float(skew)) > 1e-9  # type: ignore[arg-type]


def _given(word: str, texts: set[str]) -> str:
    path, sign, value = word.partition("=")
    path, text = path.strip(), value.strip()
    if not sign or path not in texts:
        return word
    if path in PATHS:
        _check_path(path, text)
    if path in PATHS and text.startswith("~"):
        try:
            return f"{path}={Path(text).expanduser()}"
        except RuntimeError as error:
            raise UserError(f"setting {path}: {text} names the home folder of an unknown user") from error
    try:
        read = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return word
    if isinstance(read, bool | int | float | complex):
        return f"{path}={text!r}"
    return word
