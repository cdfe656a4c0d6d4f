"""The page of a study: is there a shortcut, what does it do, what helps, and what to look at first."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from debias.data.properties.intervals import Share
from debias.data.split import Task
from debias.redaction import redact
from debias.study.choice import PLAIN
from debias.study.findings import Findings
from debias.study.labels import Labels
from debias.tracking.report.diagnosis import interval, percent, properties_table, remarks
from debias.tracking.report.document import DOCUMENT, escaped, picture
from debias.tracking.results.tables import NOTHING, Table, write

_PAIRS, _CLUSTERS = 20, 8


def headline(found: Findings) -> str:
    """The answer to the question whether there is a shortcut, in one line."""
    verdict = found.verdict
    if verdict.kind == "named":
        where = " and ".join(found.names)
        return f"There is a shortcut: {where}" if len(found.names) < 2 else f"There are shortcuts: {where}"
    if verdict.kind == "unmoved":
        return "There may be a shortcut, of which no simple property can be named"
    if verdict.kind == "none":
        return "No shortcut seen"
    if found.diagnosis.moved:
        # What small networks cannot learn is no shortcut, and what one property tells would have been named.
        return "No shortcut seen: nothing simple tells the classes"
    return "Nothing can be said about a shortcut"


def words_of(found: Findings) -> str:
    """The verdict in words."""
    if found.verdict.kind != "unlearnt" or not found.diagnosis.moved:
        return found.verdict.words
    best = max(found.diagnosis.properties, key=lambda one: one.beyond)
    most = f"{best.name}, {percent(best.accuracy.value)}, by chance {percent(best.chance)}"
    return (
        f"no property of the images alone tells the class (most: {most}), and a small network that learns what is "
        f"easy gets {percent(found.diagnosis.accuracy.value)} of held-out images right"
    )


def class_line(found: Findings, method: str) -> str:
    """Mean over classes and the worst class, which an average hides where classes are of unequal sizes."""
    shares = found.by_class(method)
    seen = [(share.value, label) for label, share in enumerate(shares) if share.n]
    value, worst = min(seen)
    mean = sum(value for value, _ in seen) / len(seen)
    worth = "a shortcut was not seen" if found.against is None else "test images have the shortcut too"
    return (
        f"as a mean over classes {method} gets {percent(mean)} right; worst is {found.task.target_names[worst]}, with "
        f"{percent(value)} of {shares[worst].n} ({worth})"
    )


def effect_lines(found: Findings) -> list[str]:
    """What the plain method does, and what the chosen one gains, each figure with what it is worth."""
    return [*_effect(found), class_line(found, found.chosen)]


def _effect(found: Findings) -> list[str]:
    plain, chosen = found.accuracy(PLAIN), found.accuracy(found.chosen)
    if found.against is None or found.along is None:
        lines = [f"{PLAIN} gets {interval(plain)} of {plain.n} test images right"]
        if found.verdict.kind not in ("none", "unlearnt"):
            lines[0] += "; if these have a shortcut in common with the training images, that says little"
        else:
            lines[0] += "; no shortcut was seen, but one that was not seen would flatter this figure"
        if found.chosen != PLAIN:
            lines.append(f"{found.chosen} gets {interval(chosen)} of them right, of which the same holds")
        return lines
    with_it, against = (found.accuracy(PLAIN, which) for which in (found.along, found.against))
    lines = [
        f"{PLAIN} gets {interval(plain)} of {plain.n} test images right, which have the same shortcut, so this figure "
        "says nothing about images without it",
        f"of the {with_it.n} test images that go with the shortcut it gets {interval(with_it)} right, and of the "
        f"{against.n} that go against it {_of_few(against)}",
    ]
    if found.chosen != PLAIN:
        better = found.accuracy(found.chosen, found.against)
        same = found.accuracy(found.chosen, found.along)
        lines.append(
            f"{found.chosen} gets {_of_few(better)} of those that go against it right, and {interval(same)} of those "
            "that go with it"
        )
    if rest := plain.n - with_it.n - against.n:
        lines.append(f"of {rest} test images miners do not agree what the shortcut says; they are in neither count")
    if found.moved_test is not None:
        lines.append(_moved_line(found))
    if against.n < 30:
        lines.append(
            f"{against.n} images are few: photograph more that go against the shortcut, and use them as test images"
        )
    return lines


def _moved_line(found: Findings) -> str:
    given = {name: found.on_others(name) for name in dict.fromkeys((PLAIN, found.chosen))}
    said = [f"{name} gets {_of_few(share)} right" for name, share in given.items() if share is not None]
    count = next(share.n for share in given.values() if share is not None)
    return f"of {count} test images that were given the shortcut of another class {', and '.join(said)}"


def _of_few(share: Share) -> str:
    return interval(share) if share.n else "none, as there are none,"


def choice_line(found: Findings) -> str:
    """Which method is recommended, and why."""
    if found.chosen == PLAIN:
        why = (
            "as no shortcut was seen"
            if found.verdict.kind in ("none", "unlearnt")
            else "as no other method is better on held-out images by more than chance"
        )
        return f"Use {PLAIN}, {why}"
    without = "no bias label and no test image was used to choose"
    if found.telling:
        return (
            f"Use {found.chosen}: on held-out training images that were given the shortcut of others, as a mean over "
            f"cells of class and shortcut, it gets {found.held_out_moved(found.chosen):.0f} % right, and {PLAIN} "
            f"{found.held_out_moved(PLAIN):.0f} % (on these as they are, of which few go against the shortcut, "
            f"{found.held_out(found.chosen):.0f} and {found.held_out(PLAIN):.0f} %); {without}"
        )
    return (
        f"Use {found.chosen}: on held-out training images, as a mean over cells of class and shortcut, it gets "
        f"{found.held_out(found.chosen):.0f} % right, and {PLAIN} {found.held_out(PLAIN):.0f} %; {without}"
    )


def moving_line(found: Findings) -> str:
    """Why images that were given the shortcut of others say nothing here; empty where they do or there are none."""
    if found.moved is None or found.telling:
        return ""
    return (
        f"the shortcut is not taken away by moving it from image to image: of held-out images that were given that of "
        f"others {PLAIN} gets {found.held_out_moved(PLAIN):.0f} % right, and {found.held_out(PLAIN):.0f} % of images "
        "as they are, as a mean over cells of class and shortcut; only the latter choose"
    )


def candidates_table(found: Findings) -> Table:
    """A row for each method that was trained."""
    heads = ["method", "held out"]
    heads += ["moved"] if found.telling else []
    heads += ["test"]
    heads += [] if found.against is None else ["with it", "against it"]
    heads += ["given another's"] if found.moved_test is not None else []
    rows = []
    for name, one in found.candidates.items():
        row = [f"{name} (chosen)" if name == found.chosen else name, f"{found.held_out(name):.1f} %"]
        row += [f"{found.held_out_moved(name):.1f} %"] if found.telling else []
        row.append(percent(found.accuracy(name).value))
        if found.against is not None and found.along is not None:
            shares = [found.accuracy(name, which) for which in (found.along, found.against)]
            row += [interval(share) if share.n else NOTHING for share in shares]
        moved = found.on_others(name)
        row += [] if moved is None else [interval(moved) if moved.n else NOTHING]
        rows.append([*row, f"{one.seconds:.0f}"])
    return Table("", [*heads, "seconds"], rows, text_columns=("method",))


def clusters_table(found: Findings) -> Table:
    """The clusters that the recommended method does worst on."""
    names = [PLAIN, *([found.chosen] if found.chosen != PLAIN else [])]
    rows = [
        [
            found.task.target_names[one.target],
            str(len(one.images)),
            *(percent(one.shares[name]) for name in names),
            ", ".join(one.apart) or NOTHING,
        ]
        for one in (found.clusters or [])[:_CLUSTERS]
    ]
    heads = ["class", "images", *(f"{name} right" for name in names), "beside its class"]
    return Table("", heads, rows, text_columns=("class", "beside its class"))


def worst_line(found: Findings) -> str:
    """Worst-cluster accuracy of the plain method and of the chosen one."""
    names = [PLAIN, *([found.chosen] if found.chosen != PLAIN else [])]
    worst = {name: min(one.shares[name] for one in found.clusters or []) for name in names}
    return "accuracy in the worst cluster: " + ", ".join(f"{name} {percent(value)}" for name, value in worst.items())


def pairs_lines(found: Findings) -> list[str]:
    """What near duplicates there are, and of which kinds."""
    pairs, task = found.pairs or [], found.task
    assert task.valid is not None
    parts = [len(task.train), len(task.valid), len(task.test)]
    target = torch.cat([part.target.cpu() for part in (task.train, task.valid, task.test)]).tolist()
    first_test = parts[0] + parts[1]
    across = [one for one in pairs if one.first < first_test <= one.second]
    other = [one for one in pairs if target[one.first] != target[one.second]]
    if not pairs:
        return ["no two images are nearly the same"]
    lines = [f"{len(pairs)} pairs of images are nearly the same"]
    if across:
        lines.append(f"{len(across)} of them are in the training and in the test images: test figures are flattered")
    if other:
        lines.append(f"{len(other)} of them are in different classes: one of the labels is wrong")
    return lines


def labels_line(labels: Labels) -> str:
    """How many labels look wrong, or that it cannot be said."""
    if not labels.free:
        return (
            "Of labels nothing can be said: a classifier that was balanced against the shortcut still goes by it, and "
            "contradicts most images that go against it"
        )
    return (
        f"{len(labels.order)} training images look like another class to a classifier that was balanced against the "
        "shortcut and did not see them. The surest come first"
    )


def write_study(
    path: Path,
    found: Findings,
    pictures: Mapping[str, Path],
    commands: Sequence[tuple[str, str]],
    looks: Sequence[str] = (),
) -> Path:
    """Write one HTML file that needs nothing else.

    pictures : PNG files by caption, shown under the heading that their caption begins with
    commands : what to do next, and the command
    looks : lines about where the models look; none: nothing is said of that
    """
    task = found.task

    def shown(start: str) -> list[str]:
        return [picture(file, caption) for caption, file in pictures.items() if caption.startswith(start)]

    lines = [
        f"<h1>{escaped(task.name)}: {escaped(headline(found))}</h1>",
        f"<p>{escaped(words_of(found))}.</p>",
        f"<p><b>How sure.</b> {escaped(found.verdict.sure)}. <b>What would change this.</b> "
        f"{escaped(found.verdict.doubt)}.</p>",
        "<h2>What it does to a model</h2>",
        *(f"<p>{escaped(line)}.</p>" for line in effect_lines(found)),
        f"<p><b>{escaped(choice_line(found))}.</b></p>",
        *([f"<p>{escaped(moving_line(found))}.</p>"] if moving_line(found) else []),
        write([candidates_table(found)], "html", titles=False),
        '<p class="note">Held out: training images that were not trained on, as a mean over cells of class and '
        "shortcut, and moved: these with the shortcut of others. Test images: all; where there is a shortcut those "
        "that have it, those that go against it, and those that were given that of another class.</p>",
        *(["<h2>Where the models look</h2>"] if looks else []),
        *(f"<p>{escaped(line)}.</p>" for line in looks),
        *shown("Where"),
        "<h2>Look at these first</h2>",
        '<p class="note">Training images that go against what most images of their class have in common: where there '
        "is a shortcut, the ones from which a model can learn not to rely on it.</p>",
        *shown("Look"),
    ]
    if found.labels is not None:
        lines += [
            "<h2>Labels that look wrong</h2>",
            f'<p class="note">{escaped(labels_line(found.labels))}.</p>',
            *shown("Labels"),
        ]
    if found.clusters:
        lines += [
            "<h2>Groups that nobody labelled</h2>",
            '<p class="note">Images of a class that look alike, among those that no method was trained on; the worst '
            "for the plain method come first. They may have the shortcut too.</p>",
            write([clusters_table(found)], "html", titles=False),
            *shown("Groups"),
        ]
    if found.pairs is not None:
        lines += ["<h2>Near duplicates</h2>", *(f"<p>{escaped(line)}.</p>" for line in pairs_lines(found))]
        lines += shown("Near")
    lines += [
        "<h2>What to do next</h2>",
        *(f"<p>{escaped(why)}</p><pre>{escaped(command)}</pre>" for why, command in commands),
        "<h2>The evidence</h2>",
        *(f'<p class="note">{escaped(line)}.</p>' for line in remarks(found.diagnosis)),
        *(f'<p class="note">{escaped(line)}.</p>' for line in task.notes),
        write([properties_table(found.diagnosis)], "html", titles=False),
        *shown("Evidence"),
    ]
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    text = DOCUMENT.format(title=escaped(f"Study of {task.name}"), style=style, body="\n".join(lines))
    path.write_text(redact(text), encoding="utf-8")
    return path


def pairs_shown(found: Findings) -> list[tuple[int, int]]:
    """Places of the pairs that are drawn: those across parts or classes first."""
    pairs, task = found.pairs or [], found.task
    assert task.valid is not None
    target = torch.cat([part.target.cpu() for part in (task.train, task.valid, task.test)]).tolist()
    first_test = len(task.train) + len(task.valid)

    def plain(one) -> bool:
        return not (one.first < first_test <= one.second or target[one.first] != target[one.second])

    return [(one.first, one.second) for one in sorted(pairs, key=lambda one: (plain(one), -one.cosine))[:_PAIRS]]


def all_images(task: Task) -> list:
    """Training, held-out and test images, in the order of pairs' places."""
    assert task.valid is not None
    return [task.train.shown, task.valid.shown, task.test.shown]
