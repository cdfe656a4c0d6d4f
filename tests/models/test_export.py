"""The final model of a checkpoint alone: which one it is, what it is written as, and that it is read back."""

import contextlib
import json
import shutil
from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from debias.errors import UserError
from debias.features.source import find_source
from debias.models import export
from debias.models.backbone import Backbone
from debias.models.branches import build_branches
from debias.models.checkpoint import load_read_outs, save_weights
from debias.models.embedders import Embedding
from debias.models.export import Deployed, final_model, load_model, write_model
from debias.models.onnxfile import run_onnx, without_traces
from debias.models.registry import BACKBONES, build_classifier, seeded
from debias.training.artifacts import TrainedBranches, TrainedModel

SHAPE = (3, 16, 16)
BRANCHES = {"shallow": "mlp3", "deep": "mlp5", "shape": list(SHAPE), "classes": 2}
MODEL = {"backbone": "cnn", "shape": list(SHAPE), "classes": 2}
ABOUT = {
    "dataset": "own_images",
    "classes": json.dumps(["cow", "camel"]),
    "preparation": json.dumps({"size": 16, "framing": "pad", "margin": 1.0}),
    "normalise": json.dumps({"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}),
}


def images(n=7):
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(4))


def checkpoint(folder, names=("branches", "model"), about=ABOUT):
    states = {
        "branches": seeded(lambda: build_branches(BRANCHES), 1).state_dict(),
        "model": seeded(lambda: build_classifier(MODEL), 2).state_dict(),
    }
    branches = TrainedBranches(BRANCHES, {"last": states["branches"]}) if "branches" in names else None
    model = TrainedModel(MODEL, {"last": states["model"]}, "target", "distill") if "model" in names else None
    path = folder / "weights.safetensors"
    save_weights(path, branches, model, about)
    return path


@pytest.mark.parametrize(("names", "read_out"), [(("branches", "model"), "target"), (("branches",), "shallow")])
@torch.inference_mode()
def test_the_final_model_is_the_last_stages_or_the_shallow_branch(tmp_path, names, read_out):
    path = checkpoint(tmp_path, names)
    model = final_model(path)
    assert model.classes == ["cow", "camel"] and model.description["read_out"] == read_out and not model.training
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    _, read_outs = load_read_outs(path, SHAPE, 2)
    torch.testing.assert_close(model(images()), read_outs((images() - mean) / std)[read_out])


@pytest.fixture(scope="module", params=[("branches", "model"), ("branches",)], ids=["model", "branches"])
def written(request, tmp_path_factory):
    """A model, and the folder of what was written of it."""
    folder = tmp_path_factory.mktemp("written")
    path = checkpoint(folder, request.param)
    model = final_model(path)
    found = write_model(model, folder)
    assert [path.name for path in found.paths] == ["model.safetensors", "model.json", "model.pt2", "model.onnx"]
    assert found.notes == [] and all(path.exists() for path in found.paths)
    return model, folder, path


def test_what_is_written_is_the_model(written):
    model, folder, _ = written
    with torch.no_grad():
        expected = model(images())
        assert torch.equal(load_model(folder)(images()), expected)
        program = torch.export.load(folder / "model.pt2").module()
        for count in (1, 5):
            torch.testing.assert_close(program(images(7)[:count]), expected[:count])
            torch.testing.assert_close(run_onnx(folder / "model.onnx", images(7)[:count]), expected[:count])
    about = json.loads((folder / "model.json").read_text())
    assert about["classes"] == ["cow", "camel"] and about["input"]["size"] == 16
    assert about["preparation"]["framing"] == "pad" and about["normalise"]["std"] == [0.2, 0.3, 0.4]
    # the debiased model alone: nothing of the branches
    assert set(load_file(folder / "model.safetensors")) == set(model.network.state_dict())


def test_the_description_says_what_is_in_each_file(written):
    _, folder, path = written
    about, tensors, before = (
        json.loads((folder / "model.json").read_text()),
        load_file(folder / "model.safetensors"),
        load_file(path),
    )
    assert about["output"]["type"] == "logits"
    normalises = {name: one["normalises"] for name, one in about["files"].items()}
    assert normalises == {"model.safetensors": False, "model.pt2": True, "model.onnx": True}
    # Every tensor belongs to a module that is named, and was called in the checkpoint as is said.
    for name, value in tensors.items():
        start = next(start for start in about["tensors"] if name.startswith(start))
        assert torch.equal(before[about["tensors"][start]["from"] + name.removeprefix(start)], value)


def test_the_onnx_file_is_sound_and_names_nothing_of_this_machine(written):
    folder = written[1]
    model = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    (entry,), (end,) = model.graph.input, model.graph.output
    shapes = [[one.dim_param or one.dim_value for one in side.type.tensor_type.shape.dim] for side in (entry, end)]
    assert entry.name == "images" and shapes[0] == ["batch", 3, 16, 16] and entry.type.tensor_type.elem_type == 1
    assert end.name == "logits" and shapes[1] == ["batch", 2]
    here = str(Path(export.__file__).parent).encode()
    for name in ("model.onnx", "model.pt2"):
        content = (folder / name).read_bytes()
        assert here not in content and b"export.py" not in content


@pytest.fixture(scope="module")
def changed(written, tmp_path_factory):
    """The folder of what was written of the same model with other biases."""
    folder = tmp_path_factory.mktemp("changed")
    model = final_model(written[2])
    with torch.no_grad():
        model.network.head.bias += 1
    write_model(model, folder)
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt2", "model.onnx"])
def test_files_that_differ_from_the_model_are_noticed(written, changed, tmp_path, name):
    model, folder, _ = written
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    shutil.copy(changed / name, tmp_path / name)
    with pytest.raises(UserError, match=f"{name}: read back, its logits differ by 1"):
        export.check_model(model, tmp_path)


def test_an_onnx_file_that_is_cut_short_is_noticed(written, tmp_path):
    model, folder, _ = written
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    content = (folder / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="model.onnx: ONNX Runtime does not run it"):
        export.check_model(model, tmp_path)


def test_it_is_compared_on_the_images_that_are_given(written, tmp_path):
    """Random images do not tell a model from one that differs on bright images alone; the user's own may."""
    model, folder, _ = written

    class Dazzled(torch.nn.Module):
        def forward(self, given):
            return model(given) + (given.mean(dim=(1, 2, 3)) > 0.9)[:, None].float()

    bright = torch.full((3, *SHAPE), 0.95)
    wrong = Dazzled()
    wrong.description, wrong.classes = model.description, model.classes
    assert export.check_model(wrong, folder) == 5
    assert export.check_model(model, folder, bright) == 8
    with pytest.raises(UserError, match="its logits differ by 1"):
        export.check_model(wrong, folder, bright)


def test_without_the_packages_onnx_is_left_out_with_a_line(tmp_path):
    found = write_model(final_model(checkpoint(tmp_path)), tmp_path, packages=("onnx", "no_such_package_of_onnx"))
    assert found.notes == [
        "model.onnx is left out: it needs no_such_package_of_onnx: pip install no_such_package_of_onnx"
    ]
    assert not (tmp_path / "model.onnx").exists() and len(found.paths) == 3
    assert set(json.loads((tmp_path / "model.json").read_text())["files"]) == {"model.safetensors", "model.pt2"}


@torch.library.custom_op("debias_tests::doubled", mutates_args=())
def doubled(features: torch.Tensor) -> torch.Tensor:
    return 2 * features


@doubled.register_fake
def _(features):
    return torch.empty_like(features)


class Odd(Backbone):
    """With an operation that no exporter of ONNX knows."""

    def __init__(self) -> None:
        super().__init__()
        self.features = 3

    def forward(self, given):
        return doubled(given.mean(dim=(2, 3)))


def test_a_network_that_onnx_cannot_hold_is_left_out_with_a_line(tmp_path, monkeypatch):
    monkeypatch.setitem(BACKBONES, "odd", lambda shape: Odd())
    description = final_model(checkpoint(tmp_path)).description | {"network": MODEL | {"backbone": "odd"}}
    model = Deployed(build_classifier(description["network"]), description).eval()
    found = write_model(model, tmp_path)
    (note,) = found.notes
    assert note.startswith("model.onnx is left out: torch cannot write this network as ONNX (") and "\n" not in note
    assert "doubled" in note and not (tmp_path / "model.onnx").exists()


def test_a_deep_network(tmp_path):
    spec = {"backbone": "resnet18", "shape": [3, 32, 32], "classes": 2}
    state = seeded(lambda: build_classifier(spec), 3).state_dict()
    about = ABOUT | {"preparation": json.dumps({"size": 32, "framing": "crop", "margin": 1.0})}
    path = tmp_path / "weights.safetensors"
    save_weights(path, None, TrainedModel(spec, {"last": state}, "model", "pretrain"), about)
    model = final_model(path)
    assert "model.onnx" in [path.name for path in write_model(model, tmp_path).paths]
    given = torch.rand(5, 3, 32, 32)
    with torch.no_grad():
        expected = model(given)
    for count in (1, 5):
        torch.testing.assert_close(
            run_onnx(tmp_path / "model.onnx", given[:count]), expected[:count], atol=1e-4, rtol=1e-4
        )


def test_a_model_on_features_has_the_pretrained_network_inside(tmp_path):
    """EfficientNet-Lite0 with its published weights, from images to logits in one file."""
    source = find_source("efficientnet_lite0", None, str(tmp_path))
    body, channels = source.build(64)
    embedding = Embedding(body, channels)
    width = embedding.features
    spec = {"backbone": "linear", "shape": [width, 1, 1], "classes": 2}
    state = seeded(lambda: build_classifier(spec), 3).state_dict()
    about = ABOUT | {
        "preparation": json.dumps({"size": 64, "framing": "crop", "margin": 1.0}),
        "normalise": json.dumps({"mean": [0.5] * width, "std": [2.0] * width}),
        "features": json.dumps(
            {"network": "efficientnet_lite0", "digest": source.digest, "views": 2, "file": "published"}
        ),
    }
    path = tmp_path / "weights.safetensors"
    save_weights(path, None, TrainedModel(spec, {"last": state}, "model", "pretrain"), about)
    model = final_model(path, lambda about, size: embedding)
    write_model(model, tmp_path)
    given = torch.rand(5, 3, 64, 64)
    with torch.no_grad():
        expected = model(given)
        by_hand = model.network((embedding(given) - 0.5) / 2)
    torch.testing.assert_close(expected, by_hand)
    for count in (1, 5):
        found = run_onnx(tmp_path / "model.onnx", given[:count])
        torch.testing.assert_close(found, expected[:count], atol=1e-4, rtol=1e-4)
    told = json.loads((tmp_path / "model.json").read_text())
    assert told["features"]["normalise"]["mean"] == pytest.approx(channels[0])
    assert all(name.startswith(tuple(told["tensors"])) for name in load_file(tmp_path / "model.safetensors"))


def test_torch_looks_up_where_operations_come_from_again():
    config, name = torch.fx.config, "do_not_emit_stack_traces"
    before = getattr(config, name)
    with pytest.raises(RuntimeError, match="cut short"), without_traces():
        assert getattr(config, name) is True
        raise RuntimeError("cut short")
    assert getattr(config, name) is before is False


def test_checkpoints_that_do_not_say_enough(tmp_path):
    about = {name: text for name, text in ABOUT.items() if name != "preparation"}
    with pytest.raises(UserError, match="does not say how images are prepared"):
        final_model(checkpoint(tmp_path, about=about))
    with pytest.raises(UserError, match="there is no such file"):
        final_model(tmp_path / "none.safetensors")
    (tmp_path / "released.th").write_bytes(b"x")
    with pytest.raises(UserError, match=r"not a weights.safetensors of a run"):
        final_model(tmp_path / "released.th")
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match="not written by this program"):
        final_model(tmp_path / "foreign.safetensors")


def test_folders_that_are_no_model(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load_model(tmp_path)
    write_model(final_model(checkpoint(tmp_path)), tmp_path)
    about = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(about | {"format": "other"}))
    with pytest.raises(UserError, match="no format debias-model-1"):
        load_model(tmp_path)
    for name in ("classes", "input", "network", "normalise"):
        for odd in (None, 3, "x", [], {}):
            (tmp_path / "model.json").write_text(json.dumps(about | {name: odd}))
            with contextlib.suppress(UserError):
                load_model(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps(about))
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read"):
        load_model(tmp_path)
