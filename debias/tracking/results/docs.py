"""Tables in documents that are made from committed records: the command stands above each as a comment."""

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from debias.errors import UserError
from debias.rawfiles import read_text

_BLOCK = re.compile(r"<!-- (python results\.py [^\n]*?) -->\n(.*?)<!-- end -->", re.DOTALL)
_OPENING = re.compile(r"^<!-- python results\.py", re.MULTILINE)


def rewritten(document: Path, make: Callable[[Sequence[str]], str]) -> str:
    """The document with every marked table made again.

    A table stands between `<!-- python results.py … -->` and `<!-- end -->`.

    Parameters
    ----------
    document
        A Markdown file.
    make
        Gives the Markdown that a command line's words print.

    Raises
    ------
    UserError
        When the file cannot be read, or a mark has no end.
    """
    text = read_text(document, f"{document}:")
    found = _BLOCK.findall(text)
    if len(_OPENING.findall(text)) != len(found) or any("<!-- python results.py" in body for _, body in found):
        raise UserError(f"{document}: a table that begins with <!-- python results.py … --> has no <!-- end -->")

    def table(match: re.Match[str]) -> str:
        words = shlex.split(match[1])[2:]
        return f"<!-- {match[1]} -->\n\n{make(words).strip()}\n\n<!-- end -->"

    return _BLOCK.sub(table, text)
