"""Pruning learns gates alone; fine-tuning keeps what was pruned at zero and starts where it is told to."""

import pytest
import torch

from debias.errors import UserError
from debias.losses.contrastive import supervised_contrastive
from debias.models.registry import build_classifier
from debias.stages.common.contrastive import ContrastiveTerm
from debias.stages.recipes import STAGES
from debias.training.artifacts import Mask
from debias.training.store import Store
from tests.pipeline import same, short

METHOD = "[pretrain,mine_oracle,prune,finetune]"
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
# Few steps must carry logits from 1.5 to below 0.
LARGE = ("prune.learning_rate=0.4",)
STILL = ("finetune.learning_rate=0", "finetune.weight_decay=0", "finetune.contrastive_weight=0")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store in which the network is pre-trained once."""
    return tmp_path_factory.mktemp("prune")


@pytest.fixture
def run(run_tiny, task, store):
    def run(*words, last=None, **also):
        return run_tiny(*short(METHOD), *LARGE, *words, last=last, **{"task": task, "store": store, **also})

    return run


def state_of(artifact, selection="last"):
    return artifact.states[selection]


@pytest.mark.parametrize("network", ["mlp3", "cnn"])
def test_only_gates_change(run, network):
    words = (f"pretrain.network={network}", "pretrain.epochs=1", "prune.epochs=1", "prune.steps=3")
    before = run(*words, last="pretrain").artifacts["model"]
    after = run(*words, last="prune").artifacts
    was, now = state_of(before), state_of(after["model"])
    assert list(now) == list(was)
    moved = {name for name in was if not torch.equal(now[name], was[name])}
    assert moved == {name for name in was if name.endswith(STATISTICS)}
    assert bool(moved) is (network == "cnn")
    assert all(value.device.type == "cpu" and not value.requires_grad for value in now.values())
    assert after["model"].spec == before.spec and after["model"].initial == "pretrain"
    assert after["model"].read_out == "model"

    plain = build_classifier(after["model"].spec)
    plain.load_state_dict(now)
    assert {f"{name}.weight" for name in after["mask"].kept} == {
        name for name, value in plain.named_parameters() if value.ndim > 1
    }
    for name, kept in after["mask"].kept.items():
        assert kept.dtype == torch.bool and kept.shape == plain.get_submodule(name).weight.shape


def test_sparsity_is_the_share_removed(run):
    outcome = run(last="prune")
    mask, report = outcome.artifacts["mask"].kept, outcome.stages["prune"].report
    gates, kept = sum(m.numel() for m in mask.values()), sum(int(m.sum()) for m in mask.values())
    assert gates == 784 * 3 * 100 + 100 * 100 + 100 * 10
    assert report.summary["sparsity/all/last"] == pytest.approx(100 * (1 - kept / gates))
    assert 5 < report.summary["sparsity/all/last"] < 95
    assert report.sparsity == {n: pytest.approx(100 * float((~m).double().mean())) for n, m in mask.items()}


def test_gates_start_open(run):
    """Logits start at 1.5, and three small steps of Adam take them nowhere near 0."""
    outcome = run("prune.learning_rate=0.01", "prune.steps=3", last="prune")
    assert all(bool(kept.all()) for kept in outcome.artifacts["mask"].kept.values())
    assert outcome.summary["sparsity/all/last"] == 0.0


def test_a_sparsity_weight_removes_more(run):
    none, much = (run(f"prune.sparsity_weight={weight}", last="prune").summary for weight in (0.0, 1e-6))
    assert much["sparsity/all/last"] > none["sparsity/all/last"] + 5


def test_the_two_samplings_differ(run):
    textbook, reference = (
        run(f"prune.sampling={name}", last="prune").artifacts["mask"].kept for name in ("textbook", "reference")
    )
    assert any(not torch.equal(textbook[name], reference[name]) for name in textbook)


def test_the_pruned_read_out_is_the_hard_mask(run, task):
    from debias.training.evaluation import map_images

    outcome = run(last="prune")
    model = build_classifier(outcome.artifacts["model"].spec)
    model.load_state_dict(state_of(outcome.artifacts["model"]))
    with torch.no_grad():
        for name, kept in outcome.artifacts["mask"].kept.items():
            model.get_parameter(f"{name}.weight").mul_(kept)
    right = map_images(model.eval(), task, task.test).argmax(1) == task.test.target
    assert outcome.summary["pruned/average/last"] == pytest.approx(100 * float(right.double().mean()))


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_pruned_weights_stay_exactly_zero(run, optimiser):
    words = (f"finetune.optimiser={optimiser}", "finetune.weight_decay=0.01", "finetune.epochs=3")
    source = run(last="prune").artifacts
    outcome = run(*words, "valid_fraction=0.2")
    assert set(outcome.artifacts["model"].states) == {"last", "mean", "valid", "oracle"}
    for selection in outcome.artifacts["model"].states:
        now, was = state_of(outcome.artifacts["model"], selection), state_of(source["model"])
        for name, kept in source["mask"].kept.items():
            weight = now[f"{name}.weight"]
            assert not weight[~kept].any(), (selection, name)
            moved = weight[kept] != was[f"{name}.weight"][kept]
            assert float(moved.float().mean()) > 0.5, (selection, name)


def test_pruned_weights_stay_zero_after_an_interruption(run, tmp_path):
    words = ("finetune.epochs=3", "checkpoint_seconds=0.0")

    def stop(name, value, epoch):
        if name == "finetune/loss" and epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(*words, log=stop, store=tmp_path)
    said: list[str] = []
    resumed = run(*words, say=said.append, store=tmp_path)
    assert any("resuming after epoch 1 of 3" in line for line in said)
    same(resumed.artifacts, run(*words).artifacts)
    for name, kept in resumed.artifacts["mask"].kept.items():
        assert not state_of(resumed.artifacts["model"])[f"{name}.weight"][~kept].any()


@pytest.mark.parametrize("start", ["trained", "initial"])
def test_where_finetuning_starts(run, start):
    """Without a learning rate, the result is what it started from: with the mask multiplied in, and bit for bit."""
    first = ("pretrain.learning_rate=0", "pretrain.weight_decay=0") if start == "initial" else ()
    source = state_of(run(*first, last="pretrain").artifacts["model"])
    outcome = run(*STILL, f"finetune.start={start}")
    now, mask = state_of(outcome.artifacts["model"]), outcome.artifacts["mask"].kept
    for name, value in source.items():
        kept = mask.get(name.removesuffix(".weight"))
        assert torch.equal(now[name], value if kept is None or name.endswith("bias") else value * kept), name
    # Which of the two it is must show.
    other = state_of(run(last="pretrain").artifacts["model"])
    assert torch.equal(other["head.bias"], source["head.bias"]) is (start == "trained")


@pytest.mark.parametrize("giver", ["lff", "bias_balanced", "group_dro"])
def test_first_weights_are_those_of_the_stage_that_gave_the_model(run_tiny, task, giver):
    first = {"lff": "", "bias_balanced": "true_bias,", "group_dro": "true_bias,"}[giver]
    method = f"[{first}{giver},mine_none,finetune]"
    words = (f"{giver}.learning_rate=0", f"{giver}.weight_decay=0", *STILL, "finetune.start=initial")
    source = run_tiny(*short(method, 1), *words, task=task, last=giver).artifacts["model"]
    now = run_tiny(*short(method, 1), *words, task=task).artifacts["model"]
    same(state_of(now), state_of(source))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("shape", r"pruning mask: layer 'head' has weights of shape \(10, 100\), the mask has \(10, 99\)"),
        ("missing", "pruning mask: layer 'head' of the network is missing from the mask"),
        ("foreign", "pruning mask: layer 'other' of the mask is not in the network"),
    ],
)
def test_a_mask_of_another_network(run, context, change, says):
    given = dict(run(last="prune").artifacts)
    mask = dict(given["mask"].kept)
    if change == "missing":
        del mask["head"]
    else:
        mask["head" if change == "shape" else "other"] = mask["head"][:, :99]
    with pytest.raises(UserError, match=says):
        STAGES["finetune"].run({**given, "mask": Mask(mask)}, context("finetune", *short(METHOD)))


def test_a_mask_that_a_later_network_does_not_fit(run_tiny, task):
    method = "[pretrain,mine_none,prune,true_bias,bias_balanced,finetune]"
    with pytest.raises(UserError, match=r"pruning mask: layer .*; use the mask that was made from this network"):
        run_tiny(*short(method, 1), "bias_balanced.network=mlp5", task=task)


@pytest.mark.parametrize("stage", ["prune", "finetune"])
def test_without_weight_the_contrastive_loss_is_not_computed(run, monkeypatch, tmp_path, stage):
    def refuse(*arguments):
        raise AssertionError("computed")

    words = (f"{stage}.steps=1",)
    run(*words, last=stage)
    monkeypatch.setattr(ContrastiveTerm, "loss", refuse)
    run(*words, f"{stage}.contrastive_weight=0", last=stage)
    with pytest.raises(AssertionError, match="computed"):
        run(*words, "fresh=True", last=stage, store=tmp_path)


@pytest.mark.parametrize("stage", ["prune", "finetune"])
def test_contrastive_flags_are_those_of_the_batch(run, monkeypatch, tmp_path, stage):
    loss, seen = ContrastiveTerm.loss, []

    def spy(term, features, batch):
        flag = term._flags[batch.index]
        value = loss(term, features, batch)
        # Fine-tuning comes after pruning, which is asked for the other mask.
        if term._mask == "either":
            assert torch.equal(value, supervised_contrastive(features, batch.target, flag, "either"))
            seen.append(flag)
        return value

    monkeypatch.setattr(ContrastiveTerm, "loss", spy)
    run(f"{stage}.steps=4", f"{stage}.contrastive_mask=either", "fresh=True", last=stage, store=tmp_path)
    assert len(seen) == 4
    shares = [float(flag.mean()) for flag in seen]
    # 80 times as often, or 10 times by the skew: 80 * .2 / (80 * .2 + .8) of a batch, or 10 * .2 / (10 * .2 + .8).
    assert sum(shares) / 4 == pytest.approx({"prune": 0.95, "finetune": 0.71}[stage], abs=0.06)


def test_finetuning_without_a_mask(run_tiny, task, store):
    words = (*short("jtt", 1), *STILL)
    outcome = run_tiny(*words, "finetune.start=trained", task=task, store=store)
    source = run_tiny(*words, task=task, store=store, last="pretrain").artifacts["model"]
    same(state_of(outcome.artifacts["model"]), state_of(source))
    assert "mask" not in outcome.artifacts


@pytest.mark.parametrize("stage", ["prune", "finetune"])
def test_a_training_that_diverges(run, tmp_path, stage):
    words = [f"{stage}.optimiser=sgd", f"{stage}.learning_rate=1e30", f"{stage}.contrastive_weight=0"]
    if stage == "prune":
        words.append("prune.sparsity_weight=1e9")
    with pytest.raises(UserError, match=f"{stage}: .* has diverged: the loss .*; set a lower {stage}.learning_rate"):
        run(*words, last=stage)
    assert Store(tmp_path / "other").folder(stage, "x").load_result() is None
