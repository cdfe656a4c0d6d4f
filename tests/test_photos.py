"""Image files end to end: DeNetDM and DCWP on small sets, from the command line to predictions and exports."""

import csv
import json
import signal

import pytest
import torch

from debias import main
from debias.models.export import load_model
from tests import photos
from tests.exported import probabilities
from tests.pipeline import method_with, run_and_die, same, short

SMALL = ("device=cpu", "threads=1", "progress=False", "image_size=16", "checkpoint_seconds=0")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "in"))
    return tmp_path


def words(folder, dataset, *more, store="runs"):
    where = folder / "in" / dataset
    if not where.exists():
        photos.MAKERS[dataset](where)
    # Named, as processes that tests start do not see the variable.
    own = [f"data_dir={where if dataset == 'own_images' else folder / 'in'}"]
    share = ["skew=0.2"] if dataset == "celeba" else []
    return [dataset, *own, *share, *SMALL, f"cache_dir={folder / 'cache'}", f"store={folder / store}", *more]


def small(method, epochs=2):
    branches = ("shallow=mlp3", "deep=mlp3", "batch_size=16") if method == "denetdm" else ()
    return [*short(method, epochs), *(f"branches.{word}" for word in branches)]


def info(store, number=1):
    return json.loads((store / str(number) / "info.json").read_text())


@pytest.mark.recipe
@pytest.mark.parametrize("dataset", [name for name in photos.MAKERS if name != "own_images"])
@pytest.mark.parametrize("method", ["denetdm", "dcwp"])
def test_papers_sets(folder, capfd, dataset, method):
    assert main.main(["with", *words(folder, dataset, *small(method, 1), "streaming=always")]) == 0
    out, err = capfd.readouterr()
    summary = info(folder / "runs")["summary"]
    figures = {name.split("/")[1] for name in summary if name.startswith("target/") and name.endswith("/last")}
    labelled = {"unbiased", "average", "aligned", "conflicting", "worst", "reweighted"}
    two = {"auroc", "average_precision"} if dataset in ("bffhq", "celeba") else set()
    assert figures == ({"average", "balanced", "worst_class"} if dataset == "bar" else labelled | two)
    # what is there is shown before training, and that it is streamed
    assert f"{dataset}: images of 16 x 16" in out and "streamed from the cache" in err
    for name in (
        ("blond", "not blond") if dataset == "celeba" else ("young", "old") if dataset == "bffhq" else ("diving",)
    ):
        assert name in out


@pytest.mark.recipe
@pytest.mark.parametrize("stage", ["branches", "finetune"])  # uniform draws, and weighted ones
def test_killed_while_streaming(folder, processes, stage):
    """Killed on the second batch of the third epoch; the same command again: the bits of a run that nobody killed, and
    of one that held all images in memory."""
    method = method_with(stage)
    chosen = [*small(method, 4), *(f"{stage}.batch_size={size}" for size in (16,))]
    line = ["with", *words(folder, "bffhq", *chosen, "streaming=always")]
    output = folder / "stderr.txt"
    process = processes.Process(target=run_and_die, args=(stage, 2, 2, line, str(output)))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL, output.read_text()
    assert main.main(line) == 0
    assert main.main(["with", *words(folder, "bffhq", *chosen, "streaming=never", store="other")]) == 0
    results = [
        next(path for path in (folder / store / "stages").glob(f"{stage}-*/result.pt")) for store in ("runs", "other")
    ]
    assert results[0].parent.name == results[1].parent.name
    same(*(torch.load(path, weights_only=True) for path in results))


@pytest.mark.recipe
def test_own_images_from_training_to_another_program(folder, capfd):
    """Plain accuracy, suspects with their paths, predictions, and a model that gives the same ones elsewhere."""
    learn = [*small("dcwp"), "pretrain.network=cnn", "mine_gce.network=cnn"]
    assert main.main(["mine", "with", *words(folder, "own_images", *learn)]) == 0
    with (folder / "runs" / "1" / "suspects.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 32 and all(row["path"].endswith(".jpg") and f"/{row['target']}/" in row["path"] for row in rows)

    assert main.main(["with", *words(folder, "own_images", *learn)]) == 0
    assert set(info(folder / "runs", 2)["summary"]) >= {"target/average/last", "target/average/oracle"}
    assert not any("/unbiased/" in name for name in info(folder / "runs", 2)["summary"])
    weights = folder / "runs" / "2" / "weights.safetensors"

    elsewhere = photos.class_folders(folder / "new", each=6)
    told = [f"checkpoint={weights}", f"output={folder / 'out'}", f"store={folder / 'runs'}", "threads=1"]
    assert main.main(["predict", "with", "own_images", f"folder={elsewhere}", *told]) == 0
    with (folder / "out" / "predictions.csv").open(newline="", encoding="utf-8") as handle:
        predicted = list(csv.DictReader(handle))
    assert [row["path"] for row in predicted] == sorted(
        f"{name}/photo {i}.jpg" for name in ("camel", "cow") for i in range(6)
    )
    for row in predicted:
        p = {name: float(row[name]) for name in ("camel", "cow")}
        assert abs(sum(p.values()) - 1) < 1e-5 and row["class"] == max(p, key=p.get)

    assert main.main(["export", "with", "own_images", *told]) == 0
    model = load_model(folder / "out")
    p, *exported = probabilities(elsewhere, folder / "out", 16)
    told_p = torch.tensor([[float(row[name]) for name in model.classes] for row in predicted])
    torch.testing.assert_close(p, told_p, atol=2e-5, rtol=0)
    for other in exported:
        torch.testing.assert_close(other, told_p, atol=2e-5, rtol=0)


def test_broken_images_are_not_predicted(folder, capfd):
    assert main.main(["with", *words(folder, "own_images", "erm", "pretrain.network=cnn", "pretrain.epochs=1")]) == 0
    elsewhere = photos.class_folders(folder / "new", each=3)
    (elsewhere / "cow" / "photo 1.jpg").write_bytes(b"x")
    (elsewhere / "notes.txt").write_text("no image")
    line = ["predict", "with", f"checkpoint={folder / 'runs' / '1' / 'weights.safetensors'}", f"folder={elsewhere}"]
    line += [f"output={folder / 'out'}", f"store={folder / 'runs'}", f"cache_dir={folder / 'cache'}"]
    capfd.readouterr()
    assert main.main(line) == 2
    assert "1 broken files:" in capfd.readouterr().err and not (folder / "out").exists()
    assert main.main([*line, "bad_files=skip"]) == 0
    assert len((folder / "out" / "predictions.csv").read_text().splitlines()) == 6


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["predict", "with"], "nothing to predict with: set checkpoint=FILE"),
        (["export", "with"], "nothing to export: set checkpoint=FILE"),
        (["export", "with", "checkpoint=none.safetensors"], "there is no such file"),
        (["predict", "with", "checkpoint={here}"], "no images to predict: set folder=FOLDER"),
        (["predict", "with", "checkpoint={here}", "folder=none"], "folder=none is not there"),
    ],
)
def test_what_predict_and_export_need(tmp_path, capfd, line, says):
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    words = [word.format(here=tmp_path / "weights.safetensors") for word in line]
    assert main.main([*words, f"store={tmp_path / 'runs'}"]) == 2
    assert says in capfd.readouterr().err


@pytest.mark.parametrize("method", ["group_dro", "bias_balanced", "[pretrain,mine_oracle,finetune]"])
def test_methods_that_need_bias_labels_say_so_before_anything_is_trained(folder, capfd, method):
    assert main.main(["with", *words(folder, "own_images", *short(method))]) == 2
    err = capfd.readouterr().err
    assert "needs bias labels" in err and "own_images has none" in err and "erm, denetdm, dcwp" in err
    assert not list((folder / "runs" / "stages").glob("*/result.pt"))
