"""The order of the rooms: imports go down only, no cycle, and the committed picture and table say what is so."""

from pathlib import Path

import pytest

from scripts.draw_rooms import DOCUMENT, PICTURE, boxes, svg, table, with_table, written_lines
from scripts.imports import LEVELS, ROOT, arrows, cycles, faults, imports, lines_of, modules, reduced, rooms

RENEW = "run python -m scripts.draw_rooms and commit docs/"


def scratch(folder: Path, files: dict[str, str]) -> Path:
    """A project of a few files, every one in a room of the real one."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


SOUND = {
    "debias/errors.py": "",
    "debias/losses/gce.py": "from debias import errors\n",
    "debias/data/sources/idx.py": "from debias import errors\n",
    "debias/data/generated/colored.py": "from debias.data.sources.idx import mnist\n",
    "debias/data/photos/own.py": "from debias import errors\n",
    "debias/data/registry.py": "from debias.data.generated import colored\n\nfrom data.photos import own\n",
    "debias/training/loop.py": "import debias.data.registry\n",
    "debias/commands/train.py": "import debias.training.loop\n",
    "main.py": "from debias.commands.train import train\n",
}


def test_no_import_goes_up_and_every_file_has_a_room() -> None:
    assert faults() == []


def test_every_room_has_files_and_the_graph_is_not_empty() -> None:
    assert all(count > 0 for count in lines_of().values())
    assert sum(len(targets) for targets in imports(modules()).values()) > 300


def test_the_order_within_data() -> None:
    """Sources below what is generated from them and photographs; the registry above both."""
    rank = {room.name: number for number, level in enumerate(LEVELS) for room in level}
    assert rank["data registry"] < rank["data/generated"] == rank["data/photos"] < rank["data/sources"]


def test_a_sound_project_has_no_faults(tmp_path: Path) -> None:
    assert faults(scratch(tmp_path, SOUND)) == []


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("debias/training/loop.py", "from debias.commands.train import train\n", "up, from training to commands"),
        (
            "debias/training/loop.py",
            "def late():\n    from debias.commands import train\n",
            "up, from training to commands",
        ),
        ("debias/errors.py", "import debias.losses.gce\n", "up, from ground to losses"),
        (
            "debias/data/sources/idx.py",
            "from debias.data.registry import DATASETS\n",
            "up, from data/sources to data registry",
        ),
        (
            "debias/data/photos/own.py",
            "import debias.data.generated.colored\n",
            "sideways, from data/photos to data/generated",
        ),
        ("debias/commands/train.py", "from tests.pipeline import same\n", "imports tests"),
        ("debias/training/loop.py", "from ..commands import train\n", "up, from training to commands"),
        (
            "debias/losses/gce.py",
            'from importlib import import_module\n\nNAMES = ("debias.training.loop",)\n',
            "up, from losses to training",
        ),
        ("debias/elsewhere/thing.py", "", "elsewhere/thing.py belongs to no room"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, path: str, text: str, said: str) -> None:
    found = faults(scratch(tmp_path, SOUND | {path: text}))
    assert any(said in fault for fault in found), found


def test_a_cycle_within_a_room_is_found(tmp_path: Path) -> None:
    files = {
        "debias/losses/one.py": "import debias.losses.two\n",
        "debias/losses/two.py": "def late():\n    import debias.losses.one\n",
    }
    assert faults(scratch(tmp_path, SOUND | files)) == [
        "a cycle: debias.losses.one -> debias.losses.two -> debias.losses.one"
    ]


def test_cycles() -> None:
    assert cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"]]


def test_reduction_keeps_what_no_longer_way_implies() -> None:
    assert reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_the_picture_and_the_table_are_current() -> None:
    """Rooms and arrows to the last one; lines of code, which change with every commit, to a fifth."""
    text, picture = ((ROOT / path).read_text(encoding="utf-8") for path in (DOCUMENT, PICTURE))
    written = written_lines(text)
    assert written.keys() == lines_of().keys(), RENEW
    for room, lines in lines_of().items():
        assert abs(lines - written[room]) <= max(40, lines / 5), f"{room}: {RENEW}"
    assert text == with_table(text, arrows(), written), RENEW
    assert picture == svg(arrows(), written), RENEW


def test_a_new_arrow_makes_the_picture_and_the_table_stale() -> None:
    lines, joined = lines_of(), arrows()
    more = joined | {"losses": joined["losses"] | {"data"}}
    assert svg(more, lines) != svg(joined, lines) and table(more, lines) != table(joined, lines)


def test_no_two_rooms_overlap_in_the_picture() -> None:
    placed = list(boxes().values())
    assert len(placed) == len(rooms())
    for number, one in enumerate(placed):
        for other in placed[number + 1 :]:
            apart = one.right <= other.left or other.right <= one.left
            assert apart or one.bottom <= other.top or other.bottom <= one.top
