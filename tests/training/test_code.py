"""The digest of a stage's code: what changes it, and what does not."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stages.recipes import STAGES
from training import code

STAGE = '''"""A stage."""

import torch
from pkg import helper
from .loss import penalty
from . import sibling
from other import number as n


class Stage:
    """It trains."""

    def run(self):
        """Run it."""
        # a remark
        return helper.double(n) + penalty(sibling.x)
'''
FILES = {
    "work/stage.py": STAGE,
    "work/sibling.py": "x = 1\n",
    "work/loss.py": "def penalty(x):\n    return x\n",
    "pkg/__init__.py": "from pkg.extra import thing\n",
    "pkg/helper.py": "def double(x):\n    import lazily\n    return 2 * lazily.same(x)\n",
    "pkg/extra.py": "import work.stage\nthing = 1\n",
    "other.py": "number = 3\n",
    "lazily.py": "def same(x):\n    return x\n",
    "unrelated.py": "x = 1\n",
    "settings.py": "default = 1\n",
}


@pytest.fixture
def digest_of(tmp_path, monkeypatch) -> Iterator[Callable[..., str]]:
    """Digest of work.stage in a project of these files, some of them changed."""
    monkeypatch.setattr(code, "ROOT", tmp_path)

    def digest(**changed: str) -> str:
        for name, text in {
            **FILES,
            **{name.replace("__", "/") + ".py": text for name, text in changed.items()},
        }.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        forget()
        return code.code_digest("work.stage")

    yield digest
    monkeypatch.undo()
    forget()


def forget() -> None:
    for cached in vars(code).values():
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()


@pytest.mark.parametrize(
    "text",
    [
        STAGE.replace("# a remark", "# another one\n        # on two lines"),
        STAGE.replace("        # a remark\n", ""),
        STAGE.replace("It trains.", "It does train, and at length."),
        STAGE.replace('        """Run it."""\n', ""),
        STAGE.replace('"""A stage."""', '"""A better sentence."""'),
        STAGE.replace(
            "helper.double(n) + penalty(sibling.x)",
            "(\n            helper.double(n)\n            + penalty(sibling.x)\n        )",
        ),
    ],
    ids=["comment", "no comment", "class docstring", "no docstring", "module docstring", "layout"],
)
def test_prose_and_layout_do_not_count(digest_of, text):
    assert text != STAGE
    assert digest_of(work__stage=text) == digest_of()


@pytest.mark.parametrize(
    "changed",
    [
        {"work__stage": STAGE.replace("helper.double(n) +", "helper.double(n) -")},
        {"work__stage": STAGE.replace("(n)", "(2)")},
        {"work__stage": STAGE.replace("return helper", "'text'\n        return helper")},
        {"work__loss": "def penalty(x):\n    return -x\n"},
        {"work__sibling": "x = 2\n"},
        {"pkg__helper": FILES["pkg/helper.py"].replace("2 *", "3 *")},
        {"pkg__extra": FILES["pkg/extra.py"].replace("thing = 1", "thing = 2")},
        {"other": "number = 4\n"},
        {"lazily": "def same(x):\n    return +x\n"},
    ],
    ids=[
        "code",
        "constant",
        "a text that is not a docstring",
        "relative",
        "sibling",
        "package",
        "through a package",
        "from",
        "lazy",
    ],
)
def test_code_counts_wherever_it_is_imported_from(digest_of, changed):
    assert digest_of(**changed) != digest_of()


@pytest.mark.parametrize("changed", [{"unrelated": "x = 2\n"}, {"settings": "default = 2\n"}, {"new": "y = 1\n"}])
def test_code_that_cannot_change_the_result_does_not_count(digest_of, changed):
    assert digest_of(**changed) == digest_of()


def test_the_real_stages():
    """Each stage's digest covers what computes its result, and not what merely stores or lists it."""
    for stage in STAGES.values():
        modules = code._reachable(type(stage).__module__)
        assert {"training.stage", "data.split"} <= modules
        if "epochs" in stage.settings:
            assert {
                "training.loop",
                "training.evaluation",
                "training.optimisers",
                "randomness",
                "data.batches",
                "metrics",
            } <= modules
        assert not modules & {"config", "main", "stages.recipes", "training.store", "training.walk", "training.code"}
        assert not any(name.startswith("tracking") for name in modules)
    assert {"losses.poe", "models.branches", "models.mlp"} <= code._reachable("stages.distill")
    assert "losses.poe" not in code._reachable("stages.pretrain")
    assert len({code.code_digest(type(stage).__module__) for stage in STAGES.values()}) > 1


def test_every_import_of_the_project_is_seen():
    """No stage reaches project code by a way that the digest cannot follow."""
    for path in (code.ROOT / "stages").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in ("__import__", "importlib.import_module", "exec", "eval"), (
                    f"{Path(path).name}: {name}"
                )
