"""The final model of a checkpoint alone: which one it is, what it is written as, and that it is read back."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from debias.errors import UserError
from debias.models import export
from debias.models.branches import build_branches
from debias.models.checkpoint import load_read_outs, save_weights
from debias.models.export import final_model, load_model, write_model
from debias.models.registry import build_classifier, seeded
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


@pytest.mark.parametrize("names", [("branches", "model"), ("branches",)])
def test_what_is_written_is_the_model(tmp_path, names):
    model = final_model(checkpoint(tmp_path, names))
    written = write_model(model, tmp_path)
    assert [path.name for path in written] == ["model.safetensors", "model.json", "model.pt2"]
    with torch.no_grad():
        expected = model(images())
        assert torch.equal(load_model(tmp_path)(images()), expected)
        program = torch.export.load(tmp_path / "model.pt2").module()
        torch.testing.assert_close(program(images()), expected)
        torch.testing.assert_close(program(images(1)), expected[:1])
    about = json.loads((tmp_path / "model.json").read_text())
    assert about["classes"] == ["cow", "camel"] and about["input"]["size"] == 16
    assert about["preparation"]["framing"] == "pad" and about["normalise"]["std"] == [0.2, 0.3, 0.4]
    # the debiased model alone: nothing of the branches
    assert set(load_file(tmp_path / "model.safetensors")) == set(model.network.state_dict())


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt2"])
def test_files_that_differ_from_the_model_are_noticed(tmp_path, name):
    model = final_model(checkpoint(tmp_path))
    write_model(model, tmp_path)
    with torch.no_grad():
        changed = final_model(checkpoint(tmp_path))
        changed.network.head.bias += 1
    (tmp_path / "other").mkdir()
    write_model(changed, tmp_path / "other")
    (tmp_path / "other" / name).replace(tmp_path / name)
    with pytest.raises(UserError, match=f"{name}: read back, its logits differ by 1"):
        export.check_model(model, tmp_path)


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
