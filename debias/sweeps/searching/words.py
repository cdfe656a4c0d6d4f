"""A search in the words of a command line, instead of a file's section `search`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from debias.errors import UserError
from debias.settings import nearest
from debias.sweeps.plan import value_of
from debias.sweeps.searching.spec import KEYS, KINDS

PREFIX = "search."
_NAME = re.compile(r"[\w-]+")


def is_search(words: Sequence[str]) -> bool:
    """Whether any of the words is about a search."""
    return any(word.startswith(PREFIX) for word in words)


def search_words(words: Sequence[str]) -> tuple[str, list[str], Mapping[str, Any]]:
    """The name of a search, the words of its trials, and its part `search` as `read_search` takes it.

        search.objective=valid/model/average search.trials=30 search.name=mine
        search.pretrain.learning_rate=default                        where it is searched by itself
        search.finetune.upweight=log:5,100 search.end.alpha=uniform:0,1 search.pretrain.batch_size=choice:32,64

    Raises
    ------
    UserError
        A word that is none of these.
    """
    name, common, given, settings = "search", [], dict[str, Any](), dict[str, Any]()
    for word in words:
        if not word.startswith(PREFIX):
            common.append(word)
            continue
        key, sign, text = word.removeprefix(PREFIX).partition("=")
        if not sign or not text:
            raise UserError(f"{word}: write {PREFIX}trials=30, or a range as in {PREFIX}end.alpha=uniform:0,1")
        if key == "name":
            if not _NAME.fullmatch(text):
                raise UserError(f"{word}: a name is letters, digits, - and _; the search is kept in a file of it")
            name = text
        elif key in KEYS and key != "settings":
            given[key] = text if key == "storage" else value_of(text)
        else:
            settings[key] = _range(word, key, text)
    return name, common, given | {"settings": settings}


def _range(word: str, key: str, text: str) -> Any:
    if text == "default":
        return text
    kind, colon, values = text.partition(":")
    if not colon or kind not in KINDS:
        hint = nearest(key, KEYS)
        raise UserError(f"{word}: write default, or one of {', '.join(KINDS)} with values, as in log:5,100{hint}")
    return {kind: [value_of(part) for part in values.split(",") if part]}
