"""Sections of a card about figures: each accuracy with its n, its interval, and in the same line what it is worth."""

from collections.abc import Mapping, Sequence
from typing import Any

from debias.data.properties.intervals import Share
from debias.tracking.report.beside import Beside
from debias.tracking.report.blocks import Block, Listed, Paragraph
from debias.tracking.report.diagnosis import interval, percent
from debias.tracking.results.tables import NOTHING, Table
from debias.vocabulary import TAINT

_PROPERTIES, _MOST_ROWS = 6, 100
_FEW = 30
_MEANS = {
    "unbiased": "mean over the groups",
    "aligned": "mean over the aligned groups",
    "conflicting": "mean over the conflicting groups",
    "worst": "the worst group",
}


def shortcut(beside: Beside) -> list[Block]:
    """What was found about a shortcut, and the evidence."""
    found = beside.diagnosis
    if found is None:
        return [
            Paragraph(
                "Whether the images have a shortcut is not recorded. The command diagnose looks for one: "
                "python main.py diagnose with own_images data_dir=FOLDER"
            )
        ]
    study = beside.study or {}
    head = study.get("headline") or {"named": "There is a shortcut", "none": "No shortcut seen"}.get(found["verdict"])
    words = str(study.get("words") or found["words"])
    blocks: list[Block] = [
        Paragraph(sentence(words), bold=f"{head}." if head else ""),
        Paragraph(sentence(found["sure"]), bold="How sure."),
        Paragraph(sentence(found["doubt"]), bold="What would change this."),
        Paragraph(f"Looked for by {beside.by}."),
    ]
    moved = found.get("operators", {}).get(found.get("operator", ""))
    if moved is not None:
        value, low, high = moved["transferred"]
        blocks.append(
            Paragraph(
                f"Evidence: given the {found['operator']} of another image, {percent(value)} ({100 * low:.0f} to "
                f"{100 * high:.0f}) of {moved['pairs']} images are taken for the class of that other image; by chance "
                f"{percent(moved['chance'])}."
            )
        )
    # A record does not keep their order.
    best = sorted(found.get("properties", {}).items(), key=lambda pair: pair[1]["chance"] - pair[1]["accuracy"])
    rows = [
        [name, _of(one), str(one.get("images", NOTHING)), percent(one["chance"])] for name, one in best[:_PROPERTIES]
    ]
    if rows:
        heads = ["property", "accuracy", "images", "by chance"]
        blocks.append(Table("How well one property alone tells the class", heads, rows, text_columns=("property",)))
    return blocks


def sentence(text: str) -> str:
    """A line as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."


def _of(one: Mapping[str, Any]) -> str:
    high = f" to {100 * one['high']:.0f}" if "high" in one else " or more"
    return f"{percent(one['accuracy'])} ({100 * one['low']:.0f}{high})"


def worth(beside: Beside) -> str:
    """What an accuracy on test images without bias labels is worth, in words for the same line."""
    found = beside.diagnosis
    if found is None:
        return "test images may have a shortcut in common with the training images, which was not looked for"
    if found["verdict"] == "named":
        return "test images have the same shortcut, so this says nothing about images without it"
    if found["verdict"] == "unmoved":
        return "if test images have a shortcut in common with the training images, this says little"
    return "no shortcut was seen, but one that was not seen would flatter this"


def figures(description: Mapping[str, Any], beside: Beside) -> list[Block]:
    """Accuracy of the exported model by group and class."""
    if beside.record is None:
        return [
            Paragraph("The file holds no figures. `python main.py evaluate with DATA checkpoint=FILE` measures them.")
        ]
    if beside.study is not None:
        return _of_study(description["classes"], beside, beside.study)
    read_out = description["read_out"]
    own = _matrix(beside.matrices, read_out)
    if own is None:
        return [Paragraph("The record of the run has no figures of this model.")]
    selection, hits, counts = own
    rows, labelled = _groups(description["classes"], beside, hits, counts)
    total = Share(sum(map(sum, hits)), sum(map(sum, counts)))
    line = f"{interval(total)} of {total.n} test images are right"
    blocks: list[Block] = []
    if not labelled:
        doubt = worth(beside)
        blocks.append(Paragraph(f"{line}; {doubt}."))
        heads = ["class", "right (95 % interval)", "images", "what it is worth"]
        rows = [[*row, doubt] for row in rows]
        return [*blocks, Table("", heads, rows, text_columns=("class", "what it is worth"))]
    summary = beside.record.summary
    means = [
        [name, f"{summary[path]:.1f} %", words]
        for name, words in _MEANS.items()
        if (path := f"{read_out}/{name}/{selection}") in summary
    ]
    doubt = "as often as test images have each group, which is not how often it comes elsewhere"
    blocks.append(Paragraph(f"{line}, {doubt}."))
    if means:
        blocks.append(Table("Over groups of class and bias", ["figure", "accuracy", "what it is"], means,
                            text_columns=("figure", "what it is")))  # fmt: skip
    if len(rows) > _MOST_ROWS:
        blocks.append(Paragraph(f"The worst {_MOST_ROWS} of {len(rows)} groups:"))
    heads = ["class", "bias", "right (95 % interval)", "images"]
    return [*blocks, Table("", heads, rows[:_MOST_ROWS], text_columns=("class", "bias"))]


def _matrix(matrices: Mapping[str, Any], read_out: str) -> tuple[str, list[list[int]], list[list[int]]] | None:
    """Selection, hits and images [T][B] of the exported weights: of the last stage that has them, its last epoch."""
    for stage in reversed(list(matrices)):
        for selection, found in matrices[stage].items():
            if selection in ("last", f"last{TAINT}") and read_out in found:
                hits, counts = found[read_out]
                return selection, hits, counts
    return None


def _groups(
    classes: Sequence[str], beside: Beside, hits: list[list[int]], counts: list[list[int]]
) -> tuple[list[list[str]], bool]:
    """A row for each class or, with bias labels, each group, the worst first; and whether there are such labels."""
    labelled = len(counts[0]) > 1
    if not labelled:
        shares = [Share(hit[0], n[0]) for hit, n in zip(hits, counts, strict=True)]
        return [[name, _right(one), str(one.n)] for name, one in zip(classes, shares, strict=True)], False
    assert beside.record is not None
    biases = beside.record.info.get("data", {}).get("biases") or [f"bias {i}" for i in range(len(counts[0]))]
    cells = [
        (Share(hits[i][k], counts[i][k]), classes[i], biases[k])
        for i in range(len(classes))
        for k in range(len(biases))
        if counts[i][k]
    ]
    cells.sort(key=lambda cell: cell[0].value)
    return [[name, bias, _right(one), str(one.n)] for one, name, bias in cells], True


def _right(share: Share) -> str:
    return interval(share) if share.n else NOTHING


def _of_study(classes: Sequence[str], beside: Beside, study: Mapping[str, Any]) -> list[Block]:
    """What a study found of the chosen method and of the plain one: its lines, and the shares they are made of."""
    blocks: list[Block] = [Listed([sentence(line) for line in study.get("effects", ())])]
    own = study["methods"][study["chosen"]]
    names = {
        "all": "all test images", "along": "those with the shortcut", "against": "those against the shortcut",
        "others": "given the shortcut of another class",
    }  # fmt: skip
    doubts = {
        "all": worth(beside),
        "along": "flattered by the shortcut",
        "against": "accuracy where the shortcut misleads",
        "others": "accuracy where the shortcut misleads, as far as it can be moved",
    }
    rows = []
    given = own.get("shares", {})
    for part in (part for part in names if part in given):
        share = Share(*given[part])
        few = f"; few images ({share.n})" if share.n < _FEW else ""
        rows.append([names[part], _right(share), str(share.n), doubts[part] + few])
    for name, pair in zip(classes, own.get("classes", ()), strict=False):
        share = Share(*pair)
        rows.append([f"class {name}", _right(share), str(share.n), worth(beside)])
    if rows:
        heads = ["test images", "right (95 % interval)", "images", "what it is worth"]
        blocks.append(
            Table(f"Of {study['chosen']}, the exported model", heads, rows, text_columns=(heads[0], heads[3]))
        )
    return blocks


def selection(beside: Beside) -> list[Block]:
    """How the weights came to be these and not others."""
    if beside.record is None:
        return [Paragraph("Not recorded beside the file.")]
    if beside.study is not None:
        tried = ", ".join(beside.study["methods"])
        return [
            Paragraph(f"Of the methods {tried} a study chose one, each by its weights of the last epoch."),
            Paragraph(f"{beside.study.get('choice', 'The reason is not recorded')}."),
        ]
    tainted = any(TAINT in name for name in beside.record.summary)
    return [
        Paragraph(
            "The weights are those of the last epoch, but they were taught by weights that had been chosen on the test "
            "images, so test figures are flattered."
            if tainted
            else "The weights are those of the last epoch: no image was used to choose an epoch."
        )
    ]


def limits(description: Mapping[str, Any], beside: Beside) -> list[str]:
    """What a reader may take the figures for, and they are not."""
    lines = []
    if beside.record is not None:
        lines.append(
            "Test images are of the same collection as the training images: of images from elsewhere (another camera, "
            "place, time) the figures say nothing."
        )
        lines.append("The figures are of one seed; another one gives somewhat different figures.")
    if beside.diagnosis is None or beside.diagnosis["verdict"] in ("none", "unlearnt"):
        lines.append("That no shortcut is known does not mean that there is none.")
    elif beside.diagnosis["verdict"] == "named":
        lines.append("Beside the shortcut that was found there may be others that nobody has seen.")
    lines.append(
        "An image that is of none of the classes gets one of them all the same, often with a high probability."
    )
    lines.append("Probabilities (softmax) were not calibrated: 0.9 need not mean that 9 of 10 are right.")
    return lines
