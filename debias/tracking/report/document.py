"""One HTML document about many runs that needs nothing else: tables, curves side by side, matrices, images, settings.

Everything that comes from a run is escaped, and the document forbids itself to load or run anything.
"""

import base64
import html
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from debias.rawfiles import read_regular, replaced_whole
from debias.redaction import redact
from debias.tracking import pictures as draw
from debias.tracking.curves import final_curves
from debias.tracking.folders import RunRecord, read_json
from debias.tracking.results.records import settings_of
from debias.tracking.results.summary import data_of
from debias.tracking.results.tables import NOTHING, Table, plain, write

# A chart with more lines than this cannot be read, and a document with more pictures is slow on a phone.
MAX_LINES = 12
MAX_PICTURE = 4_000_000

DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def write_report(
    path: Path, records: Sequence[RunRecord], tables: Sequence[Table], title: str, shown: int = MAX_LINES
) -> int:
    """Write the document; gives its size in bytes.

    Parameters
    ----------
    path
        The HTML file.
    records
        The runs, oldest first.
    tables
        Means over seeds, and what is in no mean.
    title
        Its heading.
    shown
        So many of the newest runs are shown with their curves and pictures.
    """
    newest = list(records)[-shown:] if shown > 0 else []
    sections = {
        "Results": "".join(write([table], "html") for table in tables),
        "Curves": _curves(newest),
        "What differs": _differences(records),
        "Runs": "".join(_run(record) for record in reversed(newest)),
        "Environment": _environment(records),
    }
    links = "".join(f'<a href="#{_anchor(name)}">{name}</a>' for name in sections)
    left = f", the newest {len(newest)} with curves and pictures" if len(newest) < len(records) else ""
    body = [f"<h1>{escaped(title)}</h1>", f'<p class="note">{len(records)} runs{left}.</p>', f"<nav>{links}</nav>"]
    body += [f'<h2 id="{_anchor(name)}">{name}</h2>\n{content}' for name, content in sections.items()]
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    text = DOCUMENT.format(title=escaped(title), style=style, body="\n".join(body))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whatever a record holds, no address with a password leaves in a report.
    with replaced_whole(path) as partial:
        return partial.write_text(redact(text), encoding="utf-8")


def _curves(records: Sequence[RunRecord]) -> str:
    """A chart of each figure for the runs on equally made data."""
    made: dict[Any, list[RunRecord]] = {}
    for record in records:
        made.setdefault(data_of(record), []).append(record)
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for runs in made.values():
            series: dict[str, dict[str, list[tuple[float, float]]]] = {}
            for record in runs:
                for figure, metric in final_curves(_json(record.folder / "metrics.json"), record.info.get("final")):
                    points = list(zip(map(float, metric["steps"]), map(float, metric["values"]), strict=False))
                    series.setdefault(figure, {})[_name(record)] = points
            charts = []
            for figure in ("unbiased", "conflicting", "aligned", "average"):
                if figure not in series or (figure == "average" and "unbiased" in series):
                    continue
                name = f"{runs[0].config['dataset']}: {figure} test accuracy of the final model"
                path = draw.plot_curves(series[figure], title=name, ylabel="%", path=Path(folder) / "chart.png")
                charts.append(picture(path, name))
            parts.append(f'<div class="pictures">{"".join(charts)}</div>' if charts else "")
    return "".join(parts) or '<p class="note">No run here has curves: they are read from run folders.</p>'


def _differences(records: Sequence[RunRecord]) -> str:
    """The settings in which runs of one method differ, run by run."""
    by_method: dict[str, list[RunRecord]] = {}
    for record in records:
        by_method.setdefault(record.method, []).append(record)
    tables = []
    for method, runs in by_method.items():
        settings = [settings_of(run) for run in runs]
        names = list(dict.fromkeys(name for one in settings for name in one if name != "method"))
        # What a run did not get to, or an older one does not know, does not count as a difference.
        varying = [name for name in names if len({repr(one[name]) for one in settings if name in one}) > 1]
        if varying and len(runs) > 1:
            rows = [
                [_number(run), *(str(one.get(name, NOTHING)) for name in varying)]
                for run, one in zip(runs, settings, strict=True)
            ]
            tables.append(Table(method, ["run", *varying], rows, text_columns=("run", *varying)))
    return "".join(write([table], "html") for table in tables) or '<p class="note">No setting differs.</p>'


def _run(record: RunRecord) -> str:
    """One run: its figures, matrices, example images, suspects and other pictures."""
    about = [
        f"status {record.status.lower()}",
        f"started {record.started or NOTHING} UTC",
        record.device or "device not recorded",
        f"kept in {record.folder}",
    ]
    if any(stage.get("needs_bias_labels") for stage in record.info.get("stages", {}).values()):
        about.append("trained with bias labels")
    if "mined/precision/train" in record.summary:
        figures = ("precision", "recall", "average_precision")
        mined = [
            f"{name.replace('_', ' ')} {record.summary[f'mined/{name}/train']:.1f} %"
            for name in figures
            if f"mined/{name}/train" in record.summary
        ]
        about.append("suspects: " + ", ".join(mined))
    heat = record.info.get("heat")
    lines = heat.get("lines", ()) if isinstance(heat, Mapping) else ()
    pictures = sorted(path for path in record.folder.glob("*.png")) if record.folder.is_dir() else []
    own = [path for path in pictures if path.stem.startswith(("matrix-", "confusion"))]
    images = [path for path in pictures if path.stem in ("examples", "suspects", "heat")]
    rest = [path for path in pictures if path not in own and path not in images]
    parts = [f"<h3>{escaped(_name(record))}</h3>", f'<p class="note">{escaped("; ".join(about))}.</p>']
    parts += [f'<p class="note">Heat: {escaped(str(line))}.</p>' for line in lines]
    for label, paths in (("", own + images), ("Further pictures", rest)):
        content = "".join(picture(path, path.stem.replace("-", " ")) for path in paths)
        if content and label:
            parts.append(f'<details><summary>{label}</summary><div class="pictures">{content}</div></details>')
        elif content:
            parts.append(f'<div class="pictures">{content}</div>')
    return "\n".join(parts)


def _environment(records: Sequence[RunRecord]) -> str:
    """Machine and versions, one row for each that differs."""
    seen: dict[tuple[str, ...], list[str]] = {}
    for record in records:
        run = _json(record.folder / "run.json")
        host, experiment = run.get("host") or {}, run.get("experiment") or {}
        versions = dict(name.split("==", 1) for name in experiment.get("dependencies", []) if "==" in name)
        system = host.get("os") or [NOTHING]
        row = (
            str(record.device or NOTHING),
            str(host.get("cpu", NOTHING)),
            " ".join(map(str, system)) if isinstance(system, list) else str(system),
            str(host.get("python_version", NOTHING)),
            ", ".join(f"{name} {versions[name]}" for name in ("torch", "numpy", "sacred") if name in versions)
            or NOTHING,
        )
        seen.setdefault(row, []).append(_number(record))
    rows = [[*row, _listed(numbers)] for row, numbers in seen.items()]
    heads = ["device", "processor", "system", "Python", "packages", "runs"]
    return write([Table("", heads, rows, text_columns=heads)], "html", titles=False)


def _listed(numbers: Sequence[str]) -> str:
    return ", ".join(numbers[:12]) + (f" and {len(numbers) - 12} more" if len(numbers) > 12 else "")


def _name(record: RunRecord) -> str:
    share = "" if record.conflicting is None else f", {100 * record.conflicting:g} %"
    return f"{record.method}{share}, seed {record.config.get('seed')} (run {_number(record)})"


def _number(record: RunRecord) -> str:
    return record.folder.name


def picture(path: Path, caption: str) -> str:
    """The picture inside the document; nothing for what is not a picture or too large."""
    try:
        content = read_regular(path, MAX_PICTURE)
    except (OSError, ValueError):
        return ""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return ""
    data = base64.b64encode(content).decode("ascii")
    text = escaped(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def _json(path: Path) -> Mapping[str, Any]:
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def escaped(text: str) -> str:
    return html.escape(plain(str(text)), quote=True)
