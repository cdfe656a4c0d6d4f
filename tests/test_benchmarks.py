"""The benchmark prints what it should; times are never compared with anything."""

import errno
import itertools
import json
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks import as_folder, figures, sweep, throughput
from debias.data.loading import load_task
from debias.data.mapped import in_memory
from debias.errors import UserError

TINY = ("--samples", "140", "--epochs", "2", "--batch", "64", "--product", "32")


@pytest.mark.parametrize(
    ("stage", "first", "others"),
    [
        # Weights that see every image, by layer: 2352 x 100 first, 100 x 100 hidden, 100 x 10 the classifier.
        ("branches", 2 * 235_200, 4 * 10_000 + 1000),
        ("pretrain", 235_200, 3 * 10_000 + 1000),
        ("distill", 235_200, 3 * 10_000 + 2 * 1000),  # its classifier reads the features twice
    ],
)
def test_flops_of_a_step(stage: str, first: int, others: int) -> None:
    forward = 2 * 64 * (first + others)
    executed, standard = throughput.step_flops(stage, batch=64)
    assert standard == 3 * forward
    assert executed == 3 * forward - 2 * 64 * first


def test_json_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert throughput.main([*TINY, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # The part of a batch at the end is left out, so that images and steps agree.
    assert (found["stage"], found["samples"], found["tests"], found["epochs"]) == ("branches", 128, 21, 2)
    assert len(found["raw"]["train"]) == len(found["raw"]["epoch"]) == 2
    assert [len(timed) for timed in found["raw"]["products"]] == [throughput.PRODUCTS] * 3
    assert all(0 < t < e for t, e in zip(found["raw"]["train"], found["raw"]["epoch"], strict=True))
    assert 0 < found["evaluation_share"] < 1
    for name in ("images_per_second", "epoch_seconds", "product_gflops", "share_executed", "share_standard"):
        assert found[name]["median"] > 0 and found[name]["best"] > 0, name


def test_table_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert throughput.main([*TINY, "--stage", "pretrain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(None, 1) == ["stage", "pretrain, 128 images in batches of 64"]
    assert [line[:24].rstrip() for line in lines[3:]] == [
        "training loop, images/s",
        "epoch with evaluation, s",
        "evaluation's share of it",
        "matrix product, GFLOP/s",
        "share of it, executed",
        "share of it, standard",
    ]


def test_shares_by_hand() -> None:
    speed = throughput.Speed(train=[2.0, 1.0, 4.0], epoch=[4.0, 1.25, 5.0], products=[[10.0], [30.0], [20.0], [20.0]])
    found = throughput.describe(speed, samples=128, batch=64, executed=8.0, standard=None)
    assert found["images_per_second"] == {"median": 64.0, "best": 128.0}
    assert found["epoch_seconds"] == {"median": 4.0, "best": 1.25}
    assert found["evaluation_share"] == pytest.approx(0.2)
    # 16 FLOP an epoch; products around the epochs: 20, 25, 20; shares 16/2/20, 16/1/25, 16/4/20
    assert found["share_executed"] == {"median": pytest.approx(0.4), "best": pytest.approx(16 / 30)}
    assert found["share_standard"] is None


def test_a_stage_is_timed_beside_its_plain_step(capsys: pytest.CaptureFixture[str]) -> None:
    tiny = [
        "--samples",
        "40",
        "--epochs",
        "1",
        "--batch",
        "20",
        "--product",
        "32",
        "--rounds",
        "2",
        "--stage",
        "finetune",
    ]
    assert throughput.main([*tiny, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["beside"], len(found["raw"]["pairs"])) == ("pretrain", 2)
    assert throughput.main(tiny) == 0
    assert "speed, stage : plain" in capsys.readouterr().out


def test_the_ratio_of_pairs_by_hand() -> None:
    found = throughput.describe_beside("end", [(2.0, 1.0), (4.0, 3.0), (10.0, 1.0)], samples=120)
    assert found["speed_ratio"] == {"median": 0.5, "least": 0.1, "most": 0.75}
    assert (found["images_per_second"], found["plain_images_per_second"]) == (30.0, 120.0)
    assert found["beside"] == "end alpha=0 beta=0"


@pytest.mark.parametrize("stage", throughput.CASES)
def test_every_case_is_a_stage_of_a_recipe_and_so_is_its_plain_step(stage: str) -> None:
    case = throughput.CASES[stage]
    stages = throughput.RECIPES[throughput.recipe_with(stage)].stages
    assert stage in stages
    assert case.beside is None or case.beside in stages
    assert set(case.plain) <= set(throughput.STAGES[case.beside or stage].settings)
    assert throughput.default_batch(stage) in (64, 128, 256)


@pytest.mark.parametrize("wrong", [["--epochs", "0"], ["--samples", "10"], ["--threads", "0"], ["--stage", "brunches"]])
def test_impossible_sizes_are_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        throughput.main(wrong)
    assert refusal.value.code == 2
    assert "error" in capsys.readouterr().err


def test_a_missing_device_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert throughput.main([*TINY, "--device", "nonsense"]) == 2
    assert capsys.readouterr().err.startswith("error: device=nonsense")


def test_a_sweeps_cost_is_counted_by_trial():
    planned, ran, begun = sweep.overhead(trials=2, runs=3)
    assert planned > 0 and ran > 0 and begun > 0


def test_figures_of_two_versions_differ_in_what_changed_or_went():
    def found(**metrics: list[float]) -> dict[str, Any]:
        return {"erm": {"metrics": metrics, "weights": "0123"}}

    before = found(average=[1.0, 2.0], worst=[0.5])
    slower = {"erm": {"metrics": {"pretrain/seconds": [9.0]}, "weights": "0123"}}
    assert figures.differences({"erm": {"metrics": {"pretrain/seconds": [1.0]}, "weights": "0123"}}, slower) == []
    assert figures.differences(before, before) == figures.additions(before, before) == []
    more = found(average=[1.0, 2.0], worst=[0.5], balanced=[3.0])
    assert figures.differences(before, more) == []
    assert figures.additions(before, more) == ["erm: new are balanced"]
    assert figures.differences(more, before) == ["erm: balanced is gone"]
    assert figures.differences(before, found(average=[1.0, 2.5], worst=[0.5])) == ["erm: average differs"]
    assert figures.differences(before, {}) == ["erm: only in one of them"]


def test_weights_that_are_written_twice_have_one_digest(tmp_path):
    """The description beside the tensors is not in one order; another number, type or name is another digest."""
    texts = {name: name for name in ("format", "specs", "selection", "dataset", "method")}

    def digest(**tensors: torch.Tensor) -> str:
        save_file(tensors, tmp_path / "weights.safetensors", metadata=texts)
        return figures._digest(tmp_path / "weights.safetensors")

    one, zero = torch.ones(2, 3), torch.zeros(())
    assert len({digest(a=one, b=zero) for _ in range(5)}) == 1
    others = [{"a": one * 2, "b": zero}, {"a": one.double(), "b": zero}, {"a": one.view(3, 2), "b": zero}, {"c": one}]
    assert len({digest(a=one, b=zero), *(digest(**other) for other in others)}) == 1 + len(others)


def test_a_data_set_written_as_a_folder_is_the_same_as_own_images(tiny, tmp_path, capsys):
    """Pixel by pixel, with targets, biases and splits, in any order; what is there is not written over."""

    def rows(task, name):
        split = getattr(task, name)
        classes = [task.target_names[target] for target in split.target]
        images = in_memory(split.images).flatten(1).tolist()
        return sorted(zip(classes, split.bias.tolist(), images, strict=True))

    settings = tiny("image_size=28", "valid_fraction=0.2")
    folder = tmp_path / "digits"
    as_folder.write_task(folder, load_task(settings))
    labels = folder / "labels.csv"
    own = ("dataset=own_images", f"data_dir={folder}", f"labels={labels}", "image_size=28", "skew=0", "limit=None")
    read = load_task(tiny(*own))
    wanted = load_task(settings)
    for name in ("train", "valid", "test"):
        assert rows(read, name) == rows(wanted, name)
    assert as_folder.main([str(folder), "with", "colored_digits"]) == 2
    assert "is there already" in capsys.readouterr().err
    with pytest.raises(UserError, match="nothing beside them"):
        as_folder.write_task(tmp_path / "other", load_task(tiny("dataset=bimodal_digits")))
    assert not (tmp_path / "other").exists()


def test_a_folder_cut_short_does_not_have_its_name(tmp_path, tiny, monkeypatch):
    """What is there halfway would be read as images without labels; the next try begins anew."""
    task, folder = load_task(tiny("valid_fraction=0")), tmp_path / "digits"
    written = itertools.count(1)
    save = Image.Image.save

    def full(image, path):
        if next(written) == len(task.train) + 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(image, path)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(OSError, match="No space left"):
            as_folder.write_task(folder, task)
    assert not folder.exists()
    as_folder.write_task(folder, task)
    names = {line.split(",")[0] for line in (folder / "labels.csv").read_text().splitlines()[1:]}
    assert names == {str(path.relative_to(folder)) for path in folder.rglob("*.png")}
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
