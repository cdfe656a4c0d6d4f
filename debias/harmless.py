"""Texts from outside, made harmless where they are shown or kept: names of files and classes may hold anything."""

import io
import re
import sys

# Control characters, among them those that terminals obey, marks that turn the direction of writing, and halves of
# pairs, which stand for bytes of a name that are not UTF-8. Line breaks and tabs are kept.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# A spreadsheet takes a cell that begins so for a formula.
_FORMULA = re.compile(r"^[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def plain(text: str) -> str:
    """`text` with control characters written out, as in \\x1b: no terminal obeys it, and any file can hold it."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def cell(text: str) -> str:
    """`text` for a CSV: plain, without line breaks, and with ' in front of what a spreadsheet would compute."""
    text = plain(text).replace("\n", "\\n").replace("\t", "\\t")
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def uncell(text: str) -> str:
    """What `cell` was given, but for the control characters it wrote out."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text[1:]) else text


def let_streams_print_any_name() -> None:
    """Standard output and error write out what they cannot encode: names of files need not be text in any encoding."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
