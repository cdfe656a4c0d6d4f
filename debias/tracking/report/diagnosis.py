"""The page of a diagnosis: the verdict, the evidence in pictures and tables, and the commands to go on with."""

from collections.abc import Sequence
from pathlib import Path

from debias.data.properties.descriptors import DESCRIPTORS
from debias.data.properties.intervals import Share
from debias.diagnosis.look import Diagnosis
from debias.diagnosis.rates import Moved
from debias.diagnosis.verdict import plain_words
from debias.redaction import redact
from debias.tracking.report.document import DOCUMENT, escaped, picture
from debias.tracking.results.tables import NOTHING, Table, write

HEADS = ("operator", "moves", "transferred", "by chance", "stays", "kept", "tells class")
SHOWN = 8
SHOWN_PROPERTIES = 12


def write_diagnosis(path: Path, found: Diagnosis, pictures: dict[str, Path], commands: Sequence[str]) -> Path:
    """Write one HTML file that needs nothing else; `pictures` are PNG files by caption."""
    verdict = found.verdict
    lines = [
        f"<h1>{escaped(f'{found.task.name}: {verdict.words}')}</h1>",
        f"<p><b>How sure.</b> {escaped(verdict.sure)}.</p>",
        f"<p><b>What would change this.</b> {escaped(verdict.doubt)}.</p>",
        *(f'<p class="note">{escaped(line)}.</p>' for line in remarks(found)),
        "<h2>Go on with</h2>",
        *(f"<pre>{escaped(command)}</pre>" for command in commands),
        "<h2>What one property alone tells</h2>",
        '<p class="note">How well one property alone predicts the class of images that it was not fitted on, beside '
        "chance.</p>",
        write([properties_table(found)], "html", titles=False),
        "<h2>What moves the answers</h2>",
        '<p class="note">A small network has learnt the classes by what is easiest. It is shown an image x with one '
        "property of another image z, which it takes for another class. Transferred: its answer is now that of z. By "
        "chance: how often it would be, if x were merely disturbed (measured with donors of the class of x). Kept: "
        "what a network trained against the shortcut answers as before.</p>",
        *(picture(file, caption) for caption, file in pictures.items()),
        write(
            [Table("", list(HEADS), table_rows(found.moved), text_columns=("operator", "moves"))], "html", titles=False
        ),
    ]
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    text = DOCUMENT.format(title=escaped(f"Diagnosis of {found.task.name}"), style=style, body="\n".join(lines))
    path.write_text(redact(text), encoding="utf-8")
    return path


def table_rows(moved: Sequence[Moved]) -> list[list[str]]:
    """A row for each operator, as texts in the order of `HEADS`."""
    return [
        [
            one.operator.name,
            one.operator.summary,
            interval(one.transferred),
            percent(one.chance.value),
            percent(one.stays.value),
            NOTHING if one.kept is None else percent(one.kept.value),
            percent(one.told.value),
        ]
        for one in moved
    ]


def _rates(found: Diagnosis) -> Table:
    return Table("", list(HEADS), table_rows(found.moved), text_columns=HEADS[:2])


def properties_table(found: Diagnosis) -> Table:
    """Properties by how well each predicts the class."""
    rows = [
        [one.name, interval(one.accuracy), percent(one.chance)]
        for one in found.properties[:SHOWN_PROPERTIES]
    ]  # fmt: skip
    return Table("", ["property", "accuracy", "by chance"], rows, text_columns=("property",))


def remarks(found: Diagnosis) -> list[str]:
    """Lines about the data and about how far the verdict reaches."""
    task = found.task
    held = 0 if task.valid is None else len(task.valid)
    # What images show is in the verdict, or too little for one.
    of_files = [one for one in found.properties if one.name not in DESCRIPTORS]
    lines = [
        f"{len(task.train) + held} training images of {task.n_targets} classes were looked at; the network "
        f"({found.network_name}) gets {percent(found.accuracy.value)} of {held} held-out ones right",
        *(f"a property of the files: {line}" for line in plain_words(of_files)),
        *found.notes,
    ]
    if found.corrected is not None:
        lines.append(
            f"of {found.corrected.n} held-out images that it gets wrong, a network trained against it gets "
            f"{percent(found.corrected.value)} right"
        )
    if found.without:
        some = ", ".join(found.without[:6]) + (", ..." if len(found.without) > 6 else "")
        lines.append(
            f"no suspects in {some}: every image looked at goes with what the network learnt, so nothing can tell the "
            "class from its shortcut there"
        )
    return lines


def interval(share: Share) -> str:
    """A share in percent with its interval."""
    return f"{100 * share.value:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"


def percent(value: float) -> str:
    """A share in percent, without decimals."""
    return f"{100 * value:.0f} %"
