"""The digest of a stage's code, in a small project: which code counts, wherever it stands, and which does not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from debias.training.code import Project

STAGE = '''"""A stage."""

import torch
import lazily
from pkg import helper
from .loss import penalty
from . import sibling
from other import number as n, unused
from base import Base, shown
from debias.models.registry import BACKBONES


class Stage(Base):
    """It trains."""

    summary = "trains"
    settings = {"size": shown(3)}
    gives = ("model",)

    def check(self):
        raise UserError("no")

    def run(self, say: "Teller") -> int:
        """Run it."""
        # a remark
        if n > 9:
            raise UserError(f"{n} are too many for {unused}")
        say(f"{n} are fine")
        say(f"{self.work()} is done")
        return helper.double(n) + penalty(sibling.x) + BACKBONES["small"]

    def work(self):
        """A method."""
        return 1


class Teller:
    voice = 1
'''
FILES = {
    "work/stage.py": STAGE,
    "work/sibling.py": "x = 1\ny = 1\n",
    "work/loss.py": "def penalty(x):\n    return x\n\n\ndef other(x):\n    return x\n",
    "pkg/__init__.py": "from pkg.extra import thing\n",
    "pkg/helper.py": "def double(x):\n    import lazily\n    return 2 * lazily.same(x)\n",
    "pkg/extra.py": "import work.stage\nthing = 1\n",
    "base.py": "class Base:\n    exact = False\n    summary = 1\n\n\ndef shown(x):\n    return x\n",
    "debias/models/registry.py": (
        "import networks\nBACKBONES = {'small': networks.Small, 'large': networks.Large, 'named': lambda: 2}\n"
    ),
    "networks.py": "class Small:\n    x = 1\n\n\nclass Large:\n    x = 1\n",
    "other.py": "number = 3\nunused = 4\n",
    "lazily.py": "def same(x):\n    return x\n",
    "unrelated.py": "x = 1\n",
    "debias/settings.py": "default = 1\n",
}


@pytest.fixture
def digest_of(tmp_path: Path) -> Callable[..., str]:
    """Digest of work.stage in a project of these files, some of them changed."""

    def digest(words: tuple[str, ...] = (), **changed: str) -> str:
        for name, text in {
            **FILES,
            **{name.replace("__", "/") + ".py": text for name, text in changed.items()},
        }.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return Project(tmp_path).digest("work.stage", "Stage", words)

    return digest


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# a remark", "# another one\n        # on two lines"),
        ("        # a remark\n", ""),
        ("It trains.", "It does train, and at length."),
        ('        """Run it."""\n', ""),
        ('"""A stage."""', '"""A better sentence."""'),
        ('        """A method."""\n', ""),
        (
            "helper.double(n) + penalty(sibling.x)",
            "(\n            helper.double(n)\n            + penalty(sibling.x)\n        )",
        ),
        ("are too many", "are more than wanted"),
        ("{n} are too many for {unused}", "too many"),
        ("{n} are fine", "{n} is what was asked for"),
        ('        say(f"{n} are fine")\n', ""),
        ('        raise UserError("no")', "        return None"),
        ('"trains"', '"trains well"'),
        ("shown(3)", "4"),
        (" -> int", ""),
    ],
    ids=[
        "comment", "no comment", "class docstring", "no docstring", "module docstring", "method docstring", "layout",
        "error", "what an error names", "line for the user", "no line for the user", "check", "summary", "setting",
        "annotation",
    ],
)  # fmt: skip
def test_prose_layout_and_what_is_read_before_a_stage_runs_do_not_count(digest_of, before, after):
    assert before in STAGE
    assert digest_of(work__stage=STAGE.replace(before, after)) == digest_of()


@pytest.mark.parametrize(
    "changed",
    [
        {"work__stage": STAGE.replace("helper.double(n) +", "helper.double(n) -")},
        {"work__stage": STAGE.replace("(n)", "(2)")},
        {"work__stage": STAGE.replace("return helper", "'text'\n        return helper")},
        {"work__stage": STAGE.replace("        return 1", "        return 2")},
        {"work__stage": STAGE.replace("n > 9", "n > 8")},
        {"work__stage": STAGE.replace("{self.work()} is done", "done")},
        {"work__stage": STAGE.replace('"model"', '"mask"')},
        {"work__stage": STAGE.replace("voice = 1", "voice = 2")},
        {"work__loss": "def penalty(x):\n    return -x\n"},
        {"work__sibling": "x = 2\n"},
        {"pkg__helper": FILES["pkg/helper.py"].replace("2 *", "3 *")},
        {"pkg__extra": FILES["pkg/extra.py"] + "print.x = 1\n"},
        {"unrelated": "x = 1\nx.y = 2\n", "other": "import unrelated\n" + FILES["other.py"]},
        {"other": FILES["other.py"].replace("number = 3", "number = 4")},
        {"other": "from unrelated import *\nunused = 4\n", "unrelated": "number = 3\n"},
        {"lazily": "def same(x):\n    return +x\n"},
        {"base": FILES["base.py"].replace("False", "True")},
        {"networks": FILES["networks.py"].replace("x = 1", "x = 2", 1)},
        {"debias__models__registry": FILES["debias/models/registry.py"].replace("networks.Small", "networks.Large")},
        {"debias__models__registry": FILES["debias/models/registry.py"] + "BACKBONES |= {'large': 3}\n"},
        {"debias__models__registry": FILES["debias/models/registry.py"] + "BACKBONES['large'] = 3\n"},
    ],
    ids=[
        "code", "constant", "a text that is not a docstring", "method", "condition of an error", "a line that computes",
        "what it gives", "an annotation in quotes", "relative", "sibling", "through a package",
        "what a package does when it is imported", "what a module does when it is imported", "from", "star", "lazy",
        "base", "network", "entry of a registry", "extended registry", "entry set in a registry",
    ],
)  # fmt: skip
def test_code_counts_wherever_it_is_imported_from(digest_of, changed):
    assert digest_of(**changed) != digest_of()


@pytest.mark.parametrize(
    "changed",
    [
        {"unrelated": "x = 2\n"},
        {"debias__settings": "default = 2\n"},
        {"new": "y = 1\n"},
        {"work__sibling": "x = 1\ny = 2\n"},
        {"work__loss": FILES["work/loss.py"].replace("def other(x):\n    return x", "def other(x):\n    return -x")},
        {"other": "number = 3\nunused = 5\n"},
        {"pkg__extra": FILES["pkg/extra.py"].replace("thing = 1", "thing = 2")},
        {"base": FILES["base.py"].replace("summary = 1", "summary = 2")},
        {"base": FILES["base.py"].replace("return x", "return -x")},
        {"networks": FILES["networks.py"].replace("class Large:\n    x = 1", "class Large:\n    x = 2")},
        {"debias__models__registry": FILES["debias/models/registry.py"].replace("{'small'", "{'more': 3, 'small'")},
    ],
    ids=[
        "no import", "neutral", "new file", "another value", "another function", "read by an error alone",
        "another import of a package", "summary of a base", "what settings call", "a network of no setting",
        "a new network",
    ],
)  # fmt: skip
def test_code_that_cannot_change_the_result_does_not_count(digest_of, changed):
    assert digest_of(**changed) == digest_of()


def test_an_entry_of_a_registry_counts_for_those_whose_settings_name_it(digest_of):
    changed = {"debias__models__registry": FILES["debias/models/registry.py"].replace("lambda: 2", "lambda: 3")}
    assert digest_of(**changed) == digest_of()
    assert digest_of(("named",), **changed) != digest_of(("named",))


@pytest.mark.parametrize(("changed", "counts"), [("pkg__helper", False), ("other", False), ("work__loss", True)])
def test_what_lies_beside_an_installed_package_is_not_its_code(digest_of, tmp_path, changed, counts):
    """Where it is installed, torch and all others lie in the same folder."""

    def digest() -> str:
        return Project(tmp_path, "work").digest("work.stage", "Stage", ())

    digest_of()
    before, name = digest(), changed.replace("__", "/") + ".py"
    digest_of(**{changed: FILES[name].replace("return", "return 2 *").replace("number = 3", "number = 5")})
    assert (digest() != before) is counts
