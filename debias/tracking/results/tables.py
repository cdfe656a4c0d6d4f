"""Tables of texts, and how they are written for a terminal, Markdown, LaTeX, CSV and HTML."""

import csv
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from debias.harmless import cell as cell_of

FORMATS = ("terminal", "markdown", "latex", "csv", "html")
NOTHING = "–"
# Letters of a word that a terminal shows in one line, however narrow it is.
_UNBROKEN = 14
# A blank at which no line is broken; Rich breaks at no-break spaces.
_JOINED = "\ue000"


@dataclass(frozen=True)
class Table:
    """Rows of texts under named columns. `text_columns` are set to the left, the others to the right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def write(tables: Sequence[Table], fmt: str, *, width: int | None = None, titles: bool = True) -> str:
    """All tables as one text.

    Parameters
    ----------
    tables
        In the order in which they are written.
    fmt
        One of `FORMATS`.
    width
        Columns of the terminal; None: as wide as the tables.
    titles
        Whether titles are written.
    """
    if fmt == "csv":
        return _csv(tables)
    writer = {"terminal": _terminal, "markdown": _markdown, "latex": _latex, "html": _html}[fmt]
    return "\n".join(writer(table, width, titles) for table in tables)


def plain(text: str) -> str:
    """`text` in one line and without characters that a terminal or a page would obey."""
    return "".join(char if char.isprintable() else " " for char in text)


def _terminal(table: Table, width: int | None, titles: bool) -> str:
    # Imported here: it takes longer to load than most other formats take to write.
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(title=Text(plain(table.title)) if titles else None, title_justify="left", title_style="bold")
    drawn.padding = (0, 1, 0, 0)
    drawn.box = box.SIMPLE_HEAD
    # A spread may stand below its mean, but its sign does not stand alone.
    texts = [[plain(cell).replace("± ", f"±{_JOINED}") for cell in row] for row in (table.columns, *table.rows)]
    edges = 2 * len(table.columns) + 1
    widths = _widths(texts, None if width is None else width - edges)
    for name, text, own in zip(table.columns, texts[0], widths, strict=True):
        justify: Literal["left", "right"] = "left" if name in table.text_columns else "right"
        drawn.add_column(Text(text), justify=justify, overflow="fold", width=own)
    for row in texts[1:]:
        drawn.add_row(*map(Text, row))
    out = io.StringIO()
    # Where not even words fit, the terminal breaks lines, and nothing is lost.
    console = Console(file=out, width=sum(widths) + edges + 1, color_system=None if width is None else "auto")
    console.print(drawn)
    notes = "".join(f"{plain(note)}\n" for note in table.notes)
    lines = out.getvalue().replace(_JOINED, " ").splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n" + notes


def _widths(texts: Sequence[Sequence[str]], room: int | None) -> list[int]:
    """Letters of each column: as its texts need or, where that is more than `room`, down to its longest word.

    The first column says what a row is and breaks no word; in the others those of more than `_UNBROKEN` letters may be.
    Columns that lack little are served first: the rest of the narrowness falls on those with long texts.
    """
    from rich.cells import cell_len

    columns = list(zip(*texts, strict=True))
    wanted = [max(map(cell_len, column)) for column in columns]
    if room is None or sum(wanted) <= room:
        return wanted
    widths = [max(cell_len(word) for text in column for word in text.split(" ")) for column in columns]
    widths = [*widths[:1], *(min(letters, _UNBROKEN) for letters in widths[1:])]
    left = room - sum(widths)
    for number in sorted(range(len(columns)), key=lambda number: wanted[number] - widths[number]):
        more = max(0, min(left, wanted[number] - widths[number]))
        widths[number] += more
        left -= more
    return widths


def _markdown(table: Table, width: int | None, titles: bool) -> str:
    lines = [f"**{_escape_markdown(table.title)}**", ""] if titles else []
    lines.append("| " + " | ".join(map(_escape_markdown, table.columns)) + " |")
    lines.append("| " + " | ".join("---" if name in table.text_columns else "---:" for name in table.columns) + " |")
    lines += ["| " + " | ".join(map(_escape_markdown, row)) + " |" for row in table.rows]
    if table.notes:
        lines += ["", *(f"* {_escape_markdown(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def _escape_markdown(text: str) -> str:
    text = html.escape(plain(text), quote=False)
    for char in "\\|`*[]":
        text = text.replace(char, "\\" + char)
    return text


def _latex(table: Table, width: int | None, titles: bool) -> str:
    kinds = "".join("l" if name in table.text_columns else "r" for name in table.columns)
    lines = [f"% {plain(table.title)}"] if titles else []
    lines += [f"\\begin{{tabular}}{{{kinds}}}", "\\toprule"]
    lines += [" & ".join(map(_escape_latex, table.columns)) + " \\\\", "\\midrule"]
    lines += [" & ".join(map(_escape_latex, row)) + " \\\\" for row in table.rows]
    lines += ["\\bottomrule", "\\end{tabular}"]
    lines += [f"% {plain(note)}" for note in table.notes]
    return "\n".join(lines) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", NOTHING: "--",
}  # fmt: skip


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in plain(text))


_WITH_SPREAD = re.compile(r"(-?[\d.]+) ± ([\d.]+)")


def _csv(tables: Sequence[Table]) -> str:
    """One header: the table's title, and the columns of all tables in the order they first come in.

    A column with `mean ± std` becomes two, so that programs read numbers.
    """
    columns: dict[str, None] = {}
    rows: list[dict[str, str]] = []
    for table in tables:
        split = {
            name
            for row in table.rows
            for name, cell in zip(table.columns, row, strict=True)
            if _WITH_SPREAD.fullmatch(cell)
        }
        for name in table.columns:
            columns |= dict.fromkeys([name, f"{name} std"] if name in split else [name])
        for row in table.rows:
            rows.append({"table": plain(table.title)})
            for name, cell in zip(table.columns, row, strict=True):
                both = _WITH_SPREAD.fullmatch(cell)
                alone = "" if cell == NOTHING else plain(cell)
                rows[-1] |= {name: both[1], f"{name} std": both[2]} if both else {name: alone}
    out = io.StringIO()
    writer = csv.DictWriter(out, ["table", *columns], restval="", lineterminator="\n")
    writer.writerow({name: cell_of(plain(name)) for name in writer.fieldnames})
    writer.writerows([{name: cell_of(text) for name, text in row.items()} for row in rows])
    return out.getvalue()


def _html(table: Table, width: int | None, titles: bool) -> str:
    def cell(tag: str, name: str, text: str) -> str:
        kind = "" if name in table.text_columns else ' class="number"'
        return f"<{tag}{kind}>{html.escape(plain(text))}</{tag}>"

    head = "".join(cell("th", name, name) for name in table.columns)
    lines = ['<div class="table"><table>']
    lines += [f"<caption>{html.escape(plain(table.title))}</caption>"] if titles else []
    lines += [f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    for row in table.rows:
        lines.append("<tr>" + "".join(cell("td", *pair) for pair in zip(table.columns, row, strict=True)) + "</tr>")
    lines.append("</tbody></table></div>")
    lines += [f'<p class="note">{html.escape(plain(note))}</p>' for note in table.notes]
    return "\n".join(lines) + "\n"
