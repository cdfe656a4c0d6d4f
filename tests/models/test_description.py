"""What a stranger's file of weights says of itself: read as written by us, or refused in one line."""

import json

import pytest

from debias.errors import UserError
from debias.models.description import Wrong, check_spec, read_json, read_texts

SPEC = {"backbone": "mlp3", "shape": [3, 28, 28], "classes": 2, "read_out": "model"}
GOOD = {
    "specs": {"model": SPEC},
    "classes": ["cow", "camel"],
    "preparation": {"size": 28, "framing": "pad", "margin": 1.0},
    "normalise": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]},
}
DEEP = "[" * 100_000 + "]" * 100_000


def texts(**changed):
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in (GOOD | changed).items()}


def spec(**changed):
    return {"model": {name: value for name, value in (SPEC | changed).items() if value != "absent"}}


def test_what_is_written_is_read():
    about = read_texts(texts(dataset="own_images"), "file")
    assert about.specs == GOOD["specs"] and about.classes == ("cow", "camel") and about.shape == (3, 28, 28)
    assert about.preparation == GOOD["preparation"] and about.normalise == GOOD["normalise"] and about.says_normalise
    assert about.vector == 0 and about.texts["dataset"] == "own_images"


def test_older_files_say_less():
    about = read_texts({"specs": json.dumps(GOOD["specs"])}, "file")
    assert (about.classes, about.preparation, about.normalise, about.says_normalise) == (None, None, None, False)
    assert read_texts(texts(normalise=None), "file").normalise is None


FAULTS = {
    "specs": ["x", DEEP, None, 3, [1], {}, {"a.b": SPEC}, {"model": None}, {"model": [1]}]
    + [spec(**{name: "absent"}) for name in ("backbone", "shape", "classes")]
    + [spec(shape=shape) for shape in (None, "x", ["a", "b", "c"], [3, 28], [3, 28, -1], [3, 28, 10**9], [3, 28.5, 28])]
    + [spec(classes=count) for count in (None, "x", 0, -1, 2.5, True, 10**9)]
    + [spec(vector=size) for size in (None, "x", -1, 0.5)]
    + [spec(backbone=name) for name in (None, 3, ["mlp3"], "nothing", "../mlp3")]
    + [spec(read_out=name) for name in ("a b", "\x1b[31m", 3, "a/b", "x" * 200)]
    + [{"model": SPEC, "branches": {"shallow": "mlp3", "deep": "mlp5", "shape": [3, 28, 28], "classes": 3}}],
    "classes": [
        "x",
        DEEP,
        None,
        3,
        {"a": 1},
        [],
        ["a"],
        ["a", "a"],
        [1, 2],
        [None, None],
        [["a"], ["b"]],
        ["", "b"],
        ["\x1b[31mred", "b"],
        ["\udce9", "b"],
    ],
    "preparation": ["x", DEEP, None, 3, [1], {}, {"framing": "crop"}, {"size": 28, "evil": 1}, {"size": 64}]
    + [{"size": size} for size in (0, 28.0, "28", 10**9, None, True)]
    + [{"size": 28, "framing": framing} for framing in ("x", None, 3)]
    + [{"size": 28, "margin": margin} for margin in (0, -1, "x", None, 1e9)],
    "normalise": ["x", DEEP, 3, [1], {}, {"mean": [0.5] * 3}, {"mean": [0.5] * 2, "std": [0.5] * 2}]
    + [
        {"mean": value, "std": [0.5] * 3}
        for value in (None, "x", [None] * 3, ["a"] * 3, [[0.5]] * 3, [float("nan")] * 3)
    ]
    + [{"mean": [0.5] * 3, "std": value} for value in ([0.0] * 3, [-1.0] * 3, [float("inf")] * 3)],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in FAULTS.items() for value in values])
def test_what_is_not_ours_is_refused_in_one_line(name, value):
    with pytest.raises(UserError, match=r"^file: its description is damaged or not ours: ") as raised:
        read_texts(texts(**{name: value}), "file")
    said = str(raised.value)
    assert "\n" not in said and len(said) < 300 and said.isprintable()


def test_texts_of_any_size_and_depth():
    for text in (DEEP, "{" * 100_000, "[1" * 50_000, " " * 5_000_000):
        with pytest.raises(Wrong):
            read_json(text)
    with pytest.raises(Wrong, match="not described by fields"):
        check_spec("x", ("backbone",))
