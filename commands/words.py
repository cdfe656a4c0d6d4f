"""Words of the command line before Sacred reads them: texts stay the texts they are, and ~ is the home folder."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

from catalogue import known_settings
from errors import UserError

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


def _given(word: str, texts: set[str]) -> str:
    path, sign, value = word.partition("=")
    path, text = path.strip(), value.strip()
    if not sign or path not in texts:
        return word
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
