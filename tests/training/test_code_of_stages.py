"""The digest of the code of every stage: which edits change it, and that it has all that is executed."""

import ast
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from debias.models.lastblock import PARTS
from debias.models.onfeatures import EARLY
from debias.models.registry import BACKBONES, build_backbone
from debias.stages.recipes import STAGES
from debias.training.code import AROUND, ASIDE, NEUTRAL, PACKAGE, REGISTRIES, ROOT, Project
from debias.training.walk import _words
from tests.pipeline import method_with, short


@pytest.fixture(scope="session")
def given(tiny, task) -> dict[str, frozenset[str]]:
    """What settings and data name, for every stage by its defaults on coloured digits."""
    settings = tiny()
    return {name: _words(stage, task, settings) for name, stage in STAGES.items()}


@pytest.fixture(scope="session")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project's code, to be edited."""
    target = tmp_path_factory.mktemp("project")
    (target / PACKAGE).mkdir()
    for path in (ROOT / PACKAGE).glob("*.py"):
        shutil.copy(path, target / PACKAGE)
    for room in ("data", "models", "losses", "stages", "training"):
        shutil.copytree(ROOT / PACKAGE / room, target / PACKAGE / room, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def digests(root: Path, given: dict[str, frozenset[str]], *more: str) -> dict[str, str]:
    project = Project(root)
    return {
        name: project.digest(type(stage).__module__, type(stage).__qualname__, given[name] | set(more))
        for name, stage in STAGES.items()
    }


@pytest.fixture(scope="session")
def before(copied, given) -> dict[str, str]:
    return digests(copied, given)


@contextmanager
def edited(path: Path, edit: Callable[[ast.Module], Any]) -> Iterator[None]:
    """A file with its tree changed, until the block ends."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    untouched = ast.dump(tree)
    edit(tree)
    assert ast.dump(tree) != untouched, "the edit changed nothing"
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")


def computes_more(name: str) -> Callable[[ast.Module], None]:
    """An edit: the function or method of this name has one more statement."""

    def edit(tree: ast.Module) -> None:
        body: Any = tree
        for part in name.split("."):
            body = next(node for node in body.body if getattr(node, "name", None) == part)
        body.body.insert(1, ast.parse("more = 1").body[0])

    return edit


def says_otherwise(called: str) -> Callable[[ast.Module], None]:
    """An edit: every text given to a function of this name is another."""

    def edit(tree: ast.Module) -> None:
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if getattr(call.func, "attr", getattr(call.func, "id", "")) == called:
                for argument in call.args:
                    for node in ast.walk(argument):
                        if isinstance(node, ast.Constant) and isinstance(node.value, str):
                            node.value = f"other words: {node.value}"

    return edit


TRAINED = {name for name, stage in STAGES.items() if stage.read_outs}
ON_MLP = {name for name in TRAINED if name not in ("mine_depth", "prune", "finetune", "afr", "dfr", "lntl")}
EDITS: list[tuple[str, Callable[[ast.Module], None], set[str]]] = [
    # what is said
    ("debias/stages/common/classifier.py", says_otherwise("UserError"), set()),
    ("debias/models/registry.py", says_otherwise("UserError"), set()),
    ("debias/data/split.py", says_otherwise("ValueError"), set()),
    ("debias/stages/branches.py", says_otherwise("say"), set()),
    ("debias/stages/pretrain.py", says_otherwise("Setting"), set()),
    ("debias/training/progress.py", computes_more("headline"), set()),
    # data, whose key has the version of its builder
    ("debias/data/photos/decode.py", computes_more("decode"), set()),
    ("debias/data/generated/colored.py", computes_more("colour_images"), set()),
    ("debias/data/sources/idx.py", computes_more("read_idx"), set()),
    ("debias/data/generated/jitter.py", computes_more("bias_map"), {"lntl"}),
    ("debias/data/split.py", computes_more("hold_out"), set(STAGES)),
    ("debias/data/augment.py", computes_more("crop_flip"), set()),
    ("debias/data/batches.py", computes_more("Batches.prepared"), TRAINED | {"mine_wrong"}),
    # losses
    ("debias/losses/poe.py", computes_more("distillation"), {"distill"}),
    ("debias/losses/contrastive.py", computes_more("supervised_contrastive"), {"prune", "finetune"}),
    ("debias/losses/lntl.py", computes_more("bias_loss"), {"lntl"}),
    ("debias/losses/end.py", computes_more("entangle_disentangle"), {"end"}),
    ("debias/losses/group.py", computes_more("group_dro"), {"group_dro"}),
    ("debias/losses/logit_correction.py", computes_more("moved_prior"), {"lc"}),
    ("debias/losses/disentangle.py", computes_more("disentangling"), {"dfa"}),
    ("debias/losses/selective_mixing.py", computes_more("contradicting_partners"), {"selecmix"}),
    ("debias/losses/hsic.py", computes_more("unbiased_hsic"), {"rebias"}),
    # networks
    ("debias/models/lenet.py", computes_more("LeNet.forward"), set()),
    ("debias/models/lntl.py", computes_more("ConvNet.forward"), {"lntl"}),
    # Which of its networks it builds two of is written in its code.
    ("debias/models/resnet.py", computes_more("ResNet18.forward"), {"dfa"}),
    ("debias/models/simpleconv.py", computes_more("SimpleConv.forward"), {"rebias", "shortcut"}),
    ("debias/models/mlp.py", computes_more("MLP.forward"), ON_MLP | {"mine_depth"}),
    ("debias/models/divided.py", computes_more("Divided.forward"), {"pretrain", "lff", "lc", "dfa", "group_dro"}),
    ("debias/models/gates.py", computes_more("add_gates"), {"prune"}),
    # the engine
    ("debias/training/optimisers.py", computes_more("_KeptLists.step"), TRAINED),
    ("debias/training/optimisers.py", computes_more("make_optimiser"), TRAINED),
    ("debias/training/selections.py", computes_more("Selections.average"), TRAINED),
    ("debias/training/stacked.py", computes_more("Stacked.step"), TRAINED),
    ("debias/training/machine.py", computes_more("prepare_cpu"), TRAINED),
    ("debias/training/machine.py", computes_more("device_name"), set()),
    ("debias/training/yielding.py", computes_more("give_way"), set()),
    ("debias/training/store.py", computes_more("StageFolder.save_result"), set()),
    (
        "debias/stages/common/scores.py",
        computes_more("_in_order"),
        {"prune", "finetune", "group_dro", "bias_balanced", "end", "transfer", "resample"},
    ),
    ("debias/stages/pretrain.py", computes_more("Pretrain.run"), {"pretrain"}),
    ("debias/stages/distill.py", computes_more("Distill.check"), set()),
]


@pytest.mark.parametrize(("file", "edit", "stale"), EDITS, ids=[f"{file}-{n}" for n, (file, *_) in enumerate(EDITS)])
def test_an_edit_makes_stale_what_it_can_change(copied, given, before, file, edit, stale):
    with edited(copied / file, edit):
        after = digests(copied, given)
    assert {name for name in STAGES if after[name] != before[name]} == stale


def test_a_new_network_makes_nothing_stale(copied, given, before):
    def register(tree: ast.Module) -> None:
        tree.body.insert(1, ast.parse("from debias.models.new import New").body[0])
        (table,) = (
            node.value
            for node in tree.body
            if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "BACKBONES"
        )
        assert isinstance(table, ast.Dict)
        table.keys.append(ast.Constant("new"))
        table.values.append(ast.Name("New"))

    text = (copied / "debias" / "models" / "lenet.py").read_text(encoding="utf-8")
    (copied / "debias" / "models" / "new.py").write_text(text.replace("LeNet", "New"), encoding="utf-8")
    with edited(copied / "debias" / "models" / "registry.py", register):
        assert digests(copied, given) == before
        assert digests(copied, given, "new") != before
    (copied / "debias" / "models" / "new.py").unlink()


def test_networks_and_augmentations_count_where_they_are_named(copied, given):
    for file, edit, word in (
        ("debias/models/lenet.py", computes_more("LeNet.forward"), "lenet"),
        ("debias/data/augment.py", computes_more("crop_flip"), "crop_flip"),
    ):
        named = digests(copied, given, word)
        with edited(copied / file, edit):
            after = digests(copied, given, word)
        changed = {name for name in STAGES if after[name] != named[name]}
        assert {"pretrain", "lff", "distill"} <= changed and "mine_file" not in changed


@pytest.mark.parametrize("network", BACKBONES)
def test_all_that_a_network_is_made_of_counts_where_it_is_named(network):
    shape = (3, 32, 32) if network not in ("lenet", "convnet", "shallow_faces") else (3, 64, 64)
    if network in ("lenet", "convnet"):
        shape = (3, 28, 28)
    if network in PARTS:
        shape = (PARTS[network].channels + EARLY, 1, 1)
    reached = places(Project(ROOT, PACKAGE).reached("debias.stages.pretrain", "Pretrain", [network]))
    for part in build_backbone(network, shape).modules():
        made = type(part)
        assert (ROOT / made.__module__.replace(".", "/")).with_suffix(".py").exists() is (
            f"{made.__module__}.{made.__qualname__}" in reached
        )


def places(reached: dict[str, Any]) -> set[str]:
    return {place.partition(":")[0] for place in reached}


@pytest.mark.recipe
def test_what_a_stage_executes_is_in_its_digest(tiny, task, run_tiny, monkeypatch):
    """Every stage is run, and each function of the project that it calls is looked up."""
    settings, project, running = tiny(), Project(ROOT, PACKAGE), [""]
    called: dict[str, set[CodeType]] = {name: set() for name in STAGES}

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            called[running[0]].add(frame.f_code)

    def place_of(code: CodeType) -> tuple[str, str] | None:
        path = Path(code.co_filename)
        if not path.is_relative_to(ROOT) or path.relative_to(ROOT).parts[0] != PACKAGE:
            return None
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        # A parameter's default, such as the log of a run that keeps none, is written in a class and is not part of it.
        default = code.co_name == "<lambda>" and "<locals>" not in code.co_qualname
        return module.removesuffix(".__init__"), "<lambda>" if default else code.co_qualname.partition(".")[0]

    def watched(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def watch(self: Any, inputs: Any, ctx: Any) -> Any:
            running[0] = name
            sys.setprofile(note)
            try:
                return run(self, inputs, ctx)
            finally:
                sys.setprofile(None)

        return watch

    for name, stage in STAGES.items():
        monkeypatch.setattr(type(stage), "run", watched(name, type(stage).run))
    for name in STAGES:
        if not called[name] and name != "mine_file":
            run_tiny(*short(method_with(name), epochs=1))
    del called["mine_file"]
    missing = set()
    for name, codes in called.items():
        functions = {place for code in codes if (place := place_of(code)) is not None}
        if name == "lff":
            assert {("debias.models.mlp", "MLP"), ("debias.training.loop", "Loop")} <= functions
        stage = STAGES[name]
        words = _words(stage, task, settings) | {"mlp3", "convnet"}
        reached = places(project.reached(type(stage).__module__, type(stage).__qualname__, words))
        missing |= {
            f"{name}: {module}.{function}"
            for module, function in functions
            if module not in NEUTRAL
            and function not in ("<lambda>", "<module>")
            and f"{module}.{function}" not in reached
        }
    assert not missing


def test_what_the_rules_name_is_there():
    """A module, registry or function that is renamed does not drop out of the digest, or into it, unseen."""
    project = Project(ROOT, PACKAGE)
    assert all(project.module(name) is not None for name in NEUTRAL)
    around = [*AROUND, *(place for places in AROUND.values() for place in places)]
    assert all(project.place(place) == place for place in [*REGISTRIES, *around])
    for place in REGISTRIES:
        module, _, name = place.rpartition(".")
        owner = project.module(module)
        assert owner is not None and len(owner.definitions[name].members) > 1
    assert set(ASIDE) == {"summary", "settings", "check", "content"}


def test_registries_are_only_looked_up_by_name():
    """An entry that no setting names counts for nothing, so code that runs must not go through all of them."""
    for stage in STAGES.values():
        reached = Project(ROOT, PACKAGE).reached(type(stage).__module__, type(stage).__qualname__, ())
        for place, part in reached.items():
            for meaning in part.meaning:
                for registry in (place.rpartition(".")[2] for place in REGISTRIES):
                    uses = meaning.count(f"Name(id='{registry}', ctx=Load())")
                    looked_up = meaning.count(f"Subscript(value=Name(id='{registry}', ctx=Load())")
                    asked = meaning.count(f"comparators=[Name(id='{registry}', ctx=Load())]")
                    assert uses == looked_up + asked, place


def test_every_import_of_the_project_is_seen():
    """No stage reaches project code by a way that the digest cannot follow."""
    for room in ("stages", "training", "models", "losses"):
        for path in (ROOT / PACKAGE / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    name = ast.unparse(node.func)
                    ways = ("__import__", "import_module", "importlib.import_module", "exec", "eval")
                    assert name not in ways or path == ROOT / PACKAGE / "stages" / "recipes.py", f"{path.name}: {name}"
