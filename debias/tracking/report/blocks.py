"""A document of a few kinds of blocks, written as Markdown and as HTML.

Texts may come from strangers (names of classes and folders): nothing in them becomes markup in either form.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from debias.redaction import redact
from debias.tracking.report.document import DOCUMENT, escaped
from debias.tracking.results.tables import Table, plain, write


@dataclass(frozen=True)
class Heading:
    """Of a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """One line of text; `bold` words before it; `link` is an address behind it, which this program knows itself."""

    text: str
    bold: str = ""
    link: str = ""


@dataclass(frozen=True)
class Listed:
    """Points, each one line of text."""

    points: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Lines of a language, as they are."""

    text: str
    language: str = ""


Block = Heading | Paragraph | Listed | Code | Table

# What Markdown and GitHub's dialect of it could take for markup within a line; `markdown_text` sees to its beginning.
_WITHIN = re.compile(r"[\\`*_\[\]|~@$]|(?<=w)\.|:(?=//)|:(?=\w+:)")


def markdown_text(text: str) -> str:
    """A text in one line of Markdown, shown as it is, whatever is in it."""
    line = plain(text).strip()
    # & < > as entities; what is left gets a backslash.
    line = _WITHIN.sub(lambda match: "\\" + match[0], html.escape(line, quote=False))
    number = re.match(r"^(\d+)([.)])(?=\s|$)", line)
    if number:
        return f"{number[1]}\\{number[2]}{line[number.end() :]}"
    return re.sub(r"^([#+=-])", r"\\\1", line)


def markdown(title: str, blocks: Sequence[Block]) -> str:
    """The document in Markdown."""
    parts = [f"# {markdown_text(title)}"]
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(f"## {markdown_text(text)}")
            case Paragraph(text, bold, link):
                before = f"**{markdown_text(bold)}** " if bold else ""
                parts.append(before + markdown_text(text) + (f" <{link}>" if link else ""))
            case Listed(points):
                parts.append("\n".join(f"* {markdown_text(point)}" for point in points))
            case Code(text, language):
                fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
                parts.append(f"{fence}{language}\n{text.rstrip()}\n{fence}")
            case Table():
                parts.append(_table(block))
    return redact("\n\n".join(parts) + "\n")


def _table(table: Table) -> str:
    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    lines = [f"**{markdown_text(table.title)}**\n"] if table.title else []
    lines.append(row([markdown_text(name) for name in table.columns]))
    lines.append(row(["---" if name in table.text_columns else "---:" for name in table.columns]))
    lines += [row([markdown_text(cell) for cell in cells]) for cells in table.rows]
    return "\n".join(lines)


def page(title: str, blocks: Sequence[Block]) -> str:
    """The document as one HTML page that needs nothing else."""
    parts = [f"<h1>{escaped(title)}</h1>"]
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(f"<h2>{escaped(text)}</h2>")
            case Paragraph(text, bold, link):
                before = f"<b>{escaped(bold)}</b> " if bold else ""
                behind = f' <a href="{escaped(link)}">{escaped(link)}</a>' if link else ""
                parts.append(f"<p>{before}{escaped(text)}{behind}</p>")
            case Listed(points):
                parts.append("<ul>" + "".join(f"<li>{escaped(point)}</li>" for point in points) + "</ul>")
            case Code(text):
                # Not `escaped`, which makes one line of it.
                parts.append(f"<pre>{html.escape(text.rstrip(), quote=True)}</pre>")
            case Table():
                parts.append(write([block], "html", titles=bool(block.title)))
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    return redact(
        DOCUMENT.format(title=escaped(title), style=style, body=f'<div class="card">{chr(10).join(parts)}</div>')
    )
