"""Miners: their artifacts, who may read bias labels, pseudo bias labels, and every miner before what follows one."""

import math
from dataclasses import replace

import pytest
import torch

from debias.catalogue import default_for
from debias.data.split import Split, Task
from debias.errors import UserError
from debias.models.branches import build_branches
from debias.models.registry import build_classifier
from debias.stages.common.classifier import difficulty
from debias.stages.recipes import STAGES, stages_of
from debias.training.artifacts import ConflictScore, TrainedBranches, TrainedModel
from debias.training.evaluation import map_images
from debias.training.loop import fit_alone
from debias.training.stage import Context
from debias.training.walk import stage_key
from tests.pipeline import list_with, method_with, same, short

# The one that reads a file has tests of its own.
MINERS = [name for name, stage in STAGES.items() if "conflict_score" in stage.gives and name != "mine_file"]
# Those that look at images, so that their scores depend on the seed.
TRAINED = [name for name in MINERS if name not in ("mine_oracle", "mine_none")]
THRESHOLDS = {"mine_ensemble": 0.8}
# Uniform draws from few images need no more than this to leave the first weights.
FAST = (
    "pretrain.batch_size=32", "branches.batch_size=32", "mine_gce.batch_size=32", "mine_ensemble.batch_size=32",
    # So few images of ten classes are not enough for a property to tell them by itself.
    "mine_property.property=mean colour",
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store in which what methods share is computed once."""
    return tmp_path_factory.mktemp("mining")


@pytest.fixture
def mine(run_tiny, task, store):
    def run(miner, *words, **also):
        return run_tiny(*short(list_with(miner)), *FAST, *words, **{"task": task, "store": store, **also})

    return run


@pytest.mark.parametrize("miner", MINERS)
def test_the_artifact_of_a_miner(mine, task, tmp_path, miner):
    outcome = mine(miner)
    artifact = outcome.artifacts["conflict_score"]
    assert isinstance(artifact, ConflictScore)
    assert artifact.miner == miner and artifact.threshold == THRESHOLDS.get(miner, 0.5)
    assert torch.equal(artifact.ids, task.train.ids)
    assert artifact.score.shape == (len(task.train),) and artifact.score.dtype == torch.float32
    assert 0 <= float(artifact.score.min()) <= float(artifact.score.max()) <= 1
    same(mine(miner, store=tmp_path / "again").artifacts["conflict_score"], artifact)
    other = mine(miner, "seed=2", store=tmp_path / "other").artifacts["conflict_score"]
    assert torch.equal(other.score, artifact.score) is (miner not in TRAINED)
    assert torch.equal(other.ids, artifact.ids)


@pytest.mark.parametrize("miner", ["mine_wrong", "mine_gce"])
def test_suspects_are_what_the_network_gets_wrong(mine, task, miner):
    # In a network with normalisation it shows when it is not read in evaluation mode.
    words = ("pretrain.network=cnn", "pretrain.epochs=1") if miner == "mine_wrong" else ()
    outcome = mine(miner, *words)
    flags = outcome.artifacts["conflict_score"].score > 0.5
    figures = outcome.stages[miner].report.summary
    assert figures["mined/share/train"] == pytest.approx(100 * float(flags.float().mean()))
    if miner == "mine_wrong":
        model = build_classifier(outcome.artifacts["model"].spec)
        model.load_state_dict(outcome.artifacts["model"].states["last"])
        logits = map_images(model.eval(), task, task.train)
        assert torch.equal(flags, logits.argmax(1) != task.train.target)
        expected = difficulty(logits, task.train.target)
        assert torch.allclose(outcome.artifacts["conflict_score"].score, expected, atol=1e-6)
    conflicting = task.train.bias != task.train.target
    hits = float((flags & conflicting).sum())
    assert figures["mined/precision/train"] == pytest.approx(100 * hits / float(flags.sum()))
    assert figures["mined/recall/train"] == pytest.approx(100 * hits / float(conflicting.sum()))


def test_the_ensemble_averages_over_all_rounds(mine, task, tmp_path):
    """The score is the mean over rounds of 1 - p(target), each of the network at the end of that round."""
    said: list[torch.Tensor] = []

    class Spy:
        def fit(self, job, ctx):
            def after_epoch():
                job.model.eval()
                p = torch.softmax(map_images(job.model, ctx.task, ctx.train), 1)
                said.append(1 - p.gather(1, ctx.train.target[:, None]).squeeze(1))
                job.model.train()
                score()

            score, job.after_epoch = job.after_epoch, after_epoch
            return fit_alone(job, ctx)

    outcome = mine("mine_ensemble", "mine_ensemble.epochs=3", store=tmp_path / "spied", together=Spy())
    assert len(said) == 3
    assert torch.allclose(outcome.artifacts["conflict_score"].score, torch.stack(said).mean(0), atol=1e-6)


def test_the_two_that_are_told(mine, task):
    truth = (task.train.bias != task.train.target).float()
    assert torch.equal(mine("mine_oracle").artifacts["conflict_score"].score, truth)
    summary = mine("mine_oracle").summary
    assert summary == {
        "mined/share/train": pytest.approx(100 * float(truth.mean())),
        "mined/precision/train": 100.0,
        "mined/recall/train": 100.0,
        "mined/average_precision/train": 100.0,
        "mined/first_50/train": pytest.approx(100 * min(1.0, float(truth.sum()) / min(50, len(truth)))),
    }
    none = mine("mine_none")
    assert not none.artifacts["conflict_score"].score.any() and none.summary == {}


def test_true_bias_is_the_labels(run_tiny, task):
    bias = run_tiny("method=[true_bias]", task=task).artifacts["bias"]
    assert torch.equal(bias.label, task.train.bias) and torch.equal(bias.ids, task.train.ids)
    assert (bias.kind, bias.n_biases) == ("true", task.n_biases)


def test_only_stages_that_declare_it_see_bias_labels(run_tiny, task, store, monkeypatch, tmp_path):
    """Spied on at the one door through which stages get their training images."""
    asked: dict[str, bool] = {}
    door = vars(Context)["train"].fget

    def spy(ctx):
        split = door(ctx)
        asked[ctx.stage] = asked.get(ctx.stage, False) or split.bias is not None
        return split

    monkeypatch.setattr(Context, "train", property(spy))
    words = [*FAST, "fresh=True"]
    for method in ("[pretrain,mine_wrong,prune,finetune]", "[branches,mine_depth,distill,group_dro,bias_balanced]"):
        run_tiny(*short(method, 1), *words, task=task, store=store)
    for method in ("[mine_oracle]", "[true_bias,mine_none,mine_gce,mine_ensemble,lff]"):
        run_tiny(*short(method, 1), *words, task=task, store=store)
    table = tmp_path / "suspects.csv"
    table.write_text("id,score\n", encoding="utf-8")
    run_tiny("method=[mine_file]", f"mine_file.path={table}", task=task)
    for stage in STAGES:
        if stage not in asked:
            run_tiny(*short(method_with(stage), 1), *words, task=task, store=store)
    # AFR trains on held-out images alone, whose labels are withheld by another door (`stages.common.lastlayer`).
    assert set(asked) == set(STAGES) - {"afr"}
    seen = {name for name, saw in asked.items() if saw}
    declared = {name for name, stage in STAGES.items() if stage.needs_bias_labels}
    assert seen == declared == {"mine_oracle", "true_bias", "dfr"}


@pytest.mark.parametrize("stage", ["mine_oracle", "true_bias"])
def test_without_bias_labels_there_is_nothing_to_read(run_tiny, task, stage):
    bare = replace(task, train=task.train.without_bias(), bias_names=None)
    with pytest.raises(UserError, match=f"{stage} reads bias labels, and {task.name} has none; use a label-free"):
        run_tiny(f"method=[{stage}]", task=bare)


@pytest.mark.parametrize("miner", TRAINED)
def test_label_free_miners_do_without_bias_labels(mine, task, tmp_path, miner):
    bare = replace(
        task,
        train=task.train.without_bias(),
        test=task.test.without_bias(),
        valid=task.valid.without_bias(),
        bias_names=None,
    )
    outcome = mine(miner, task=bare, store=tmp_path / "bare")
    told = mine(miner)
    assert torch.equal(outcome.artifacts["conflict_score"].score, told.artifacts["conflict_score"].score)
    mined = {name for name in outcome.summary if name.startswith(("mined/", "pseudo_bias/"))}
    assert mined == {"mined/share/train"}


def colour_task(task: Task, n: int = 600) -> Task:
    """Images of one even colour, which is all there is to see; one in five is not coloured after its target."""
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(n) % 10
    conflicting = torch.arange(n) % 5 == torch.arange(n) // 10 % 5
    bias = torch.where(conflicting, (target + 1 + torch.randint(9, (n,), generator=generator)) % 10, target)
    colours = torch.randint(0, 256, (10, 3, 1, 1), generator=generator, dtype=torch.uint8)
    split = Split(colours[bias].expand(-1, -1, 28, 28).contiguous(), target, bias, torch.arange(n) * 3)
    return replace(task, train=split, test=split, valid=None, key="even colours")


def test_pseudo_bias_labels_are_the_colours_that_the_deep_branch_sees(context, task):
    task = colour_task(task)
    conflicting = task.train.bias != task.train.target
    assert 0.1 < float(conflicting.float().mean()) < 0.3
    spec = {"shallow": "mlp3", "deep": "mlp3", "shape": [3, 28, 28], "classes": 10}
    branches = build_branches(spec)
    # Deep features are random hinges of the three channel means.
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(100, 3, generator=generator)
    before = branches.state_dict() | {
        "deep.layers.0.weight": (weights / 784).repeat_interleave(784, dim=1),
        "deep.layers.0.bias": 0.3 * torch.randn(100, generator=generator),
        "deep.layers.1.weight": 10 * torch.eye(100),
        "deep.layers.1.bias": torch.zeros(100),
    }
    kept = {name: value.clone() for name, value in before.items()}
    ctx = context("mine_depth", "mine_depth.epochs=20", "mine_depth.batch_size=50", task=task)
    assert ctx.train.bias is None
    given = {"branches": TrainedBranches(spec, {"last": before})}
    result = STAGES["mine_depth"].run(given, ctx)
    assert torch.equal(result["bias"].label, task.train.bias)
    assert (result["bias"].kind, result["bias"].n_biases) == ("pseudo", 10)
    assert torch.equal(result["conflict_score"].score > 0.5, conflicting)
    summary = result["report"].summary
    for name in ("pseudo_bias/accuracy", "pseudo_bias/conflicting", "mined/precision", "mined/recall"):
        assert summary[f"{name}/train"] == 100.0
    same(dict(before), kept)


@pytest.mark.parametrize("told", [True, False])
def test_scores_of_a_diverged_miner(context, task, told):
    spec = {"backbone": "mlp3", "shape": [3, 28, 28], "classes": 10}
    state = {name: torch.full_like(value, torch.nan) for name, value in build_classifier(spec).state_dict().items()}
    task = task if told else replace(task, train=task.train.without_bias())
    with pytest.raises(UserError, match=r"scores are .* lower"):
        model = TrainedModel(spec, {"last": state}, "model", "pretrain")
        STAGES["mine_wrong"].run({"model": model}, context("mine_wrong", task=task))


@pytest.mark.parametrize("end", ["prune,finetune", "finetune"])
@pytest.mark.parametrize("miner", MINERS)
@pytest.mark.recipe
def test_what_follows_a_miner(run_tiny, task, store, miner, end):
    first = [] if STAGES[miner].needs else ["pretrain"]
    method = f"[{','.join([*first, list_with(miner).strip('[]'), end])}]"
    outcome = run_tiny(*short(method, 1), *FAST, task=task, store=store)
    assert list(outcome.stages) == method.strip("[]").split(",")
    assert ("mask" in outcome.artifacts) is ("prune" in end)
    model = build_classifier(outcome.artifacts["model"].spec)
    model.load_state_dict(outcome.artifacts["model"].states["last"])
    logits = map_images(model.eval(), task, task.test)
    right = 100 * float((logits.argmax(1) == task.test.target).double().mean())
    assert outcome.summary["target/average/last"] == pytest.approx(right)
    assert {name for name, about in outcome.stages.items() if about.needs_bias_labels} == ({"mine_oracle"} & {miner})


@pytest.mark.parametrize(
    ("method", "says"),
    [
        (["mine_wrong", "pretrain"], "stage mine_wrong needs model, which no earlier stage gives; {} would"),
        (["pretrain", "prune", "mine_gce"], "stage prune needs conflict_score, which no earlier stage gives; {} would"),
        (["pretrain", "finetune"], "stage finetune needs conflict_score, which no earlier stage gives; {} would"),
        (["mine_depth", "branches"], "stage mine_depth needs branches, which no earlier stage gives; {} would"),
        (["bias_balanced"], "stage bias_balanced needs bias, which no earlier stage gives; {} would"),
        (["group_dro", "true_bias"], "stage group_dro needs bias, which no earlier stage gives; {} would"),
    ],
)
def test_stages_in_the_wrong_order(method, says):
    missing = says.split(" needs ")[1].split(",")[0]
    givers = [name for name, stage in STAGES.items() if missing in stage.gives]
    with pytest.raises(UserError) as caught:
        stages_of(method)
    assert str(caught.value) == says.format(", ".join(givers)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "last"),
    [("dcwp", "mine_gce"), ("jtt", "mine_wrong"), ("mrm", "mine_none"), ("depth_prune", "mine_depth")],
)
def test_the_command_mine_stops_after_the_miner(method, last):
    assert stages_of(method, "mine")[-1] is STAGES[last]
    assert stages_of(["pretrain", "mine_oracle", "mine_wrong", "finetune"], "mine")[-1] is STAGES["mine_oracle"]


@pytest.mark.parametrize(("q", "expected"), [(0.0, math.log(10)), (0.7, 0.7 * 0.1**0.7 * math.log(10))])
def test_the_biased_network_learns_by_plain_cross_entropy_when_q_is_0(mine, q, expected):
    """At first every class has a probability of about 1/10."""
    outcome = mine("mine_gce", f"mine_gce.q={q}", "mine_gce.learning_rate=1e-6", "mine_gce.epochs=1")
    assert outcome.stages["mine_gce"].report.history[0]["loss"] == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("miner", ["mine_depth", "mine_gce"])
def test_the_network_that_has_learnt_the_shortcut_and_what_it_takes_images_for(mine, task, miner):
    """The artifact is the network itself: rebuilt, it gives the labels of training and of held-out images."""
    artifacts = mine(miner).artifacts
    model = build_classifier(artifacts["shortcut"].spec)
    model.load_state_dict(artifacts["shortcut"].states["last"])
    model.eval()
    assert torch.equal(artifacts["bias"].label, map_images(model, task, task.train).argmax(1))
    assert artifacts["bias"].kind == artifacts["held_out_bias"].kind == "pseudo"
    assert torch.equal(artifacts["held_out_bias"].ids, task.valid.ids)
    assert torch.equal(artifacts["held_out_bias"].label, map_images(model, task, task.valid).argmax(1))
    without = mine(miner, task=replace(task, valid=None, key=f"{task.key}-whole")).artifacts["held_out_bias"]
    assert len(without.ids) == len(without.label) == 0


def test_held_out_labels_are_in_the_key_of_what_they_select(tiny, task):
    """And in no other: without held-out images nothing is selected by them, and without training nothing at all."""
    settings, device = tiny(), torch.device("cpu")
    inputs = {"bias": "b", "model": "m", "conflict_score": "c"}

    def keys(stage, task):
        return {
            stage_key(STAGES[stage], task, settings, device, inputs | more) for more in ({}, {"held_out_bias": "h"})
        }

    assert len(keys("finetune", task)) == 2 and len(keys("finetune", replace(task, valid=None))) == 1
    assert len(keys("mine_wrong", task)) == 1


def test_jtt_stops_where_nothing_is_wrong_any_more(run_tiny, task):
    """A first network that knows the images by heart mines nothing, and the second would be the first once more."""
    few = replace(task, train=task.train.subset(torch.arange(30)), key="few")
    by_heart = ("pretrain.epochs=150", "pretrain.batch_size=30")
    said: list[str] = []
    with pytest.raises(
        UserError, match=r"finetune weighs suspects up, and mine_wrong found NO suspect .*pretrain\.epochs=1"
    ):
        run_tiny(*short("jtt", 1), *by_heart, task=few, say=said.append)
    assert any(line.startswith("mine_wrong found NO suspect among 30 training images") for line in said)


def test_jtt_stops_early_on_coloured_data():
    assert default_for("pretrain.epochs", "jtt", "colored_mnist") == 1
    assert default_for("pretrain.epochs", "erm", "colored_mnist") == 100
    assert default_for("pretrain.epochs", "jtt", "corrupted_cifar10") == 100
