"""What is on by itself, what a setting turns on, that it is reported, and that training goes on working with it."""

import types

import pytest
import torch

from debias.errors import UserError
from debias.models.branches import build_branches
from debias.models.registry import build_classifier
from debias.stages.recipes import STAGES
from debias.training import speed
from debias.training.speed import SPEED_SETTINGS, check_compiler, chosen, speed_up
from debias.training.walk import stage_key
from tests.pipeline import same, short

CPU, GPU = torch.device("cpu"), torch.device("cuda")
NAMES = tuple(SPEED_SETTINGS)
AUTO = dict.fromkeys(NAMES, "auto")
SHAPE = [3, 32, 32]


def network(name: str = "cnn"):
    return build_classifier({"backbone": name, "shape": SHAPE, "classes": 10})


def on(*names: str) -> dict[str, bool]:
    return {name: name in names for name in NAMES}


def test_on_a_cpu_nothing_is_on_by_itself():
    assert chosen(network(), AUTO, CPU, exact=False) == on()
    assert chosen(network(), {**AUTO, "bfloat16": "on", "compile": "off"}, CPU, exact=True) == on("bfloat16")


@pytest.mark.parametrize("able", [True, False])
def test_on_a_gpu_convolutions_get_both(monkeypatch, able):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    both = ("channels_last", "bfloat16") if able else ("channels_last",)
    assert chosen(network(), AUTO, GPU, exact=False) == on(*both)
    assert chosen(network("mlp5"), AUTO, GPU, exact=False) == on()
    assert chosen(network("resnet18"), AUTO, GPU, exact=False) == on(*both)
    assert chosen(network("end_cnn"), AUTO, GPU, exact=False) == on("channels_last")
    assert chosen(network(), AUTO, GPU, exact=True) == on("channels_last")
    assert chosen(network(), {**AUTO, "channels_last": "off"}, GPU, exact=True) == on()


def context(**settings: str):
    return types.SimpleNamespace(settings={**AUTO, **settings}, device=CPU, exact=False)


def test_channels_lie_last():
    model = network()
    assert speed_up(model, context(channels_last="on")) == on("channels_last")
    weights = [weight for weight in model.parameters() if weight.ndim == 4]
    assert weights and all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    images = torch.rand(4, *SHAPE)
    plain = network()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.eval()(images), plain.eval()(images), atol=1e-5, rtol=1e-5)


def test_bfloat16_is_for_the_inside_of_backbones():
    model, plain, images = network(), network(), torch.rand(4, *SHAPE)
    plain.load_state_dict(model.state_dict())
    inside = []
    model.backbone.layers[0].register_forward_hook(lambda module, given, made: inside.append(made.dtype))
    # Twice is as good as once.
    for _ in range(2):
        assert speed_up(model, context(bfloat16="on")) == on("bfloat16")
    logits = model(images)
    assert inside == [torch.bfloat16]
    assert logits.dtype == torch.float32 and model.features(images).dtype == torch.float32
    assert not torch.equal(logits, plain(images))
    torch.testing.assert_close(logits, plain(images), atol=0.05, rtol=0.05)
    logits.sum().backward()
    assert all(weight.dtype == weight.grad.dtype == torch.float32 for weight in model.parameters())
    assert list(model.state_dict()) == list(plain.state_dict())


def test_both_branches_are_prepared():
    model = build_branches({"shallow": "shallow_cifar", "deep": "resnet20", "shape": SHAPE, "classes": 10}).eval()
    images = torch.rand(2, *SHAPE)
    before = model(images)
    speed_up(model, context(bfloat16="on"))
    assert model.shallow.prepared and model.deep.prepared and model(images).dtype == torch.float32
    assert not torch.equal(model(images), before)


@pytest.mark.parametrize("bfloat16", ["on", "off"])
def test_training_and_evaluation_compute_in_one_precision(bfloat16):
    """Also where a method goes past `forward`: the maps of Learning Not to Learn, the joint entry of two branches."""
    images = torch.rand(2, 3, 28, 28)
    convnet = build_classifier({"backbone": "convnet", "shape": [3, 28, 28], "classes": 10}).eval()
    branches = build_branches({"shallow": "mlp3", "deep": "mlp5", "shape": [3, 28, 28], "classes": 10}).join()
    before = branches(images)
    for model in (convnet, branches):
        speed_up(model, context(bfloat16=bfloat16))
    maps = convnet.backbone.maps(images)
    assert maps.dtype == torch.float32
    assert torch.equal(convnet.backbone.after_maps(maps), convnet.backbone(images))
    assert torch.equal(maps, maps.bfloat16().float()) is (bfloat16 == "on")
    assert torch.equal(branches(images), before) is (bfloat16 == "off")
    alone = branches.head(branches.shallow(images) + branches.deep(images))
    torch.testing.assert_close(branches(images), alone, rtol=1e-5, atol=1e-6)


def test_compiled_backbones(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(type(module).__name__))
    assert speed_up(network(), context(compile="on")) == on("compile")
    assert compiled == ["CNN"]


def test_without_a_compiler(monkeypatch):
    def broken(function):
        raise RuntimeError("no compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(UserError, match=r"compile=on: torch cannot compile here \(no compiler\); leave compile=auto"):
        check_compiler(CPU)


@pytest.mark.recipe
def test_a_run_says_what_was_on_and_resumes_with_it(run_tiny, task, tmp_path):
    words = (*short("erm", 3), "pretrain.network=cnn", "channels_last=on", "bfloat16=on", "checkpoint_seconds=0.0")
    small = type(task)(**{**vars(task), "train": task.train.subset(torch.arange(200))})
    whole = run_tiny(*words, task=small, store=tmp_path / "whole")
    assert whole.stages["pretrain"].report.speed == on("channels_last", "bfloat16") | {"graph": False}

    def stop(name, value, epoch):
        if name == "pretrain/loss" and epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tiny(*words, task=small, store=tmp_path / "cut", log=stop)
    resumed = run_tiny(*words, task=small, store=tmp_path / "cut")
    same(resumed.artifacts, whole.artifacts)
    plain = run_tiny(*words[:-3], task=small, store=tmp_path / "whole")
    assert not plain.stages["pretrain"].reused
    assert plain.stages["pretrain"].report.speed == on() | {"graph": False}


def test_the_settings_are_in_every_key(tiny, task):
    plain = tiny()
    for name in NAMES:
        changed = tiny(f"{name}=on")
        for stage in STAGES.values():
            needs = dict.fromkeys((*stage.needs, *stage.uses), "given")
            assert stage_key(stage, task, plain, CPU, needs) != stage_key(stage, task, changed, CPU, needs)


def test_only_a_person_turns_bfloat16_on_for_gates():
    assert [name for name, stage in STAGES.items() if stage.exact] == ["prune", "fisher"]
    assert speed.CHOICES == ("auto", "on", "off")
