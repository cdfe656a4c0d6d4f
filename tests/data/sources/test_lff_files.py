"""What LfF's generator writes is read as it was written, and only what it names; its pickle is never opened."""

import numpy as np
import pytest
import torch

from debias.data.loading import load_task
from debias.errors import UserError
from debias.models.registry import build_classifier
from debias.training.evaluation import map_images
from tests.pipeline import short


def labels(n: int, skew: float) -> np.ndarray:
    """Targets in turn; of each class the first images conflict."""
    target = np.arange(n) % 10
    place = np.arange(n) // 10
    bias = np.where(place < round(skew * n / 10), (target + 1) % 10, target)
    return np.stack([target, bias], axis=1).astype(np.uint8)


def written(root, stem="ColoredMNIST", skew=0.05, side=28, n=200):
    folder = root / f"{stem}-Skewed{skew}-Severity4"
    random = np.random.default_rng(0)
    for part, count, share in (("train", n, skew), ("valid", 100, 0.9)):
        (folder / part).mkdir(parents=True)
        np.save(folder / part / "images.npy", random.integers(0, 256, (count, side, side, 3), dtype=np.uint8))
        np.save(folder / part / "attrs.npy", labels(count, share))
    (folder / "attr_names.pkl").write_bytes(b"cos\nmkdir\n(S'exploded'\ntR.")
    return folder


CASES = (("lff_mnist", "ColoredMNIST", 28), ("lff_cifar10", "CorruptedCIFAR10-Type1", 32))


def settings(tiny, dataset, root, *more):
    return tiny(f"dataset={dataset}", f"data_dir={root}", "limit=None", "skew=0.05", "severity=4", *more)


@pytest.mark.parametrize(("dataset", "stem", "side"), CASES)
def test_images_and_labels_come_out_as_they_went_in(tiny, tmp_path, monkeypatch, dataset, stem, side):
    monkeypatch.chdir(tmp_path)
    folder = written(tmp_path, stem, side=side)
    kind = ("type1",) if dataset == "lff_cifar10" else ()
    task = load_task(settings(tiny, dataset, tmp_path, *kind))
    for split, part in ((task.train, "train"), (task.test, "valid")):
        images, attrs = np.load(folder / part / "images.npy"), np.load(folder / part / "attrs.npy")
        assert torch.equal(split.images, torch.from_numpy(images).permute(0, 3, 1, 2))
        assert split.bias is not None
        assert torch.equal(torch.stack([split.target, split.bias], 1), torch.from_numpy(attrs.astype(np.int64)))
    assert task.bias_names is not None and task.bias_names[0] == ("gaussian noise" if kind else "orange")
    assert (task.mean is None) == (dataset == "lff_mnist")
    assert not (tmp_path / "exploded").exists()
    # The folder itself is an answer too.
    assert load_task(settings(tiny, dataset, folder, *kind)).key == task.key
    turned = load_task(settings(tiny, dataset, tmp_path, "reverse", *kind))
    assert torch.equal(turned.train.target, task.train.bias) and turned.key != task.key


def test_a_part_is_taken_evenly_as_conflicting_images_stand_together(tiny, tmp_path):
    written(tmp_path)
    task = load_task(settings(tiny, "lff_mnist", tmp_path, "limit=60"))
    assert (len(task.train), len(task.test)) == (60, 10)
    assert task.train.ids.tolist() == [number * 200 // 60 for number in range(60)]
    assert task.key != load_task(settings(tiny, "lff_mnist", tmp_path)).key


def damage(folder, part, kind, change):
    path = folder / part / f"{kind}.npy"
    array = np.load(path)
    np.save(path, change(array), allow_pickle=True)


FAULTS = {
    "other shape": ("train", "images", lambda a: a[..., :1], r"images.npy: uint8 \[200, 28, 28, 1\], not uint8"),
    "other type": ("valid", "images", lambda a: a.astype(np.float32), r"valid.images.npy: float32"),
    "fewer labels": ("train", "attrs", lambda a: a[:-1], r"attrs.npy: uint8 \[199, 2\], not integers \[200, 2\]"),
    "label": ("valid", "attrs", lambda a: a + 5, "labels go from 5 to 14"),
    "objects": ("train", "attrs", lambda a: a.astype(object), "no array can be read from it .*Python objects"),
    "share": (
        "train",
        "attrs",
        lambda a: labels(200, 0.2),
        "20.00 % of the training images .* set skew=0.2",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_such_file_is_refused(tiny, tmp_path, fault):
    part, kind, change, says = FAULTS[fault]
    damage(written(tmp_path), part, kind, change)
    with pytest.raises(UserError, match=says):
        load_task(settings(tiny, "lff_mnist", tmp_path))


def test_a_file_that_is_cut_short_or_missing(tiny, tmp_path):
    path = written(tmp_path) / "train" / "images.npy"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="images.npy: no array can be read"):
        load_task(settings(tiny, "lff_mnist", tmp_path))
    (path.parent / "attrs.npy").unlink()
    with pytest.raises(UserError, match=r"attrs.npy: there is no such file|images.npy: no array"):
        load_task(settings(tiny, "lff_mnist", tmp_path))


def test_another_share_names_the_ones_there(tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    written(tmp_path)
    with pytest.raises(UserError, match=r"(?s)no folder .*Skewed0.01-Severity4.*ColoredMNIST-Skewed0.05-Severity4"):
        load_task(settings(tiny, "lff_mnist", tmp_path, "skew=0.01"))
    with pytest.raises(UserError, match="lff_mnist needs its files: set data_dir"):
        load_task(tiny("dataset=lff_mnist", "data_dir=None"))


def test_weights_are_evaluated_on_it_as_by_hand(tiny, run_tiny, tmp_path):
    """To the image: what the program says of a network on these files is what a plain loop over them says."""
    folder = written(tmp_path)
    task = load_task(settings(tiny, "lff_mnist", tmp_path))
    outcome = run_tiny(*short("erm", 2), "pretrain.network=mlp4", "pretrain.second_division=True", task=task)
    artifact = outcome.artifacts["model"]
    model = build_classifier(artifact.spec).eval()
    model.load_state_dict(artifact.states["last"])
    ours = map_images(model, task, task.test).argmax(1)
    images = np.load(folder / "valid" / "images.npy").astype(np.float32) / 255 / 255
    state = {name: tensor.double().numpy() for name, tensor in artifact.states["last"].items()}
    values = images.transpose(0, 3, 1, 2).reshape(len(images), -1).astype(np.float64)
    for layer in range(3):
        values = np.maximum(
            values @ state[f"backbone.network.layers.{layer}.weight"].T
            + state[f"backbone.network.layers.{layer}.bias"],
            0,
        )
    logits = values @ state["head.weight"].T + state["head.bias"]
    assert logits.argmax(1).tolist() == ours.tolist()
    right = logits.argmax(1) == np.load(folder / "valid" / "attrs.npy")[:, 0]
    assert outcome.summary["model/average/last"] == pytest.approx(100 * right.mean())
