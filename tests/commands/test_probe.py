"""The command `probe` on the weights of methods with one network, and with several."""

import json

import pytest

from debias.commands.probe import probe_table
from debias.models.branches import Branches
from debias.models.checkpoint import load_read_outs
from tests.pipeline import short


@pytest.mark.parametrize(
    ("method", "networks"),
    [("erm", {"model"}), ("end", {"model"}), ("lff", {"model"}), ("denetdm", {"shallow", "deep", "target"})],
)
def test_every_network_of_a_checkpoint_is_probed(command, tmp_path, capsys, method, networks):
    assert command(*short(method, 1)) == 0
    weights = tmp_path / "runs" / "1" / "weights.safetensors"
    capsys.readouterr()
    assert command(f"checkpoint={weights}", name="probe") == 0
    info = json.loads((tmp_path / "runs" / "2" / "info.json").read_text(encoding="utf-8"))
    assert set(info["summary"]) == {f"{name}/probe_{what}/given" for name in networks for what in ("target", "bias")}
    assert all(0 <= value <= 100 for value in info["summary"].values())
    said = capsys.readouterr().out
    assert all(f"{value:.2f}" in said for value in info["summary"].values()) and "guessing" in said


def test_features_of_both_branches(command, tmp_path, task):
    assert command(*short("denetdm", 1), name="branches") == 0
    bundle, _ = load_read_outs(tmp_path / "runs" / "1" / "weights.safetensors", (3, 28, 28), 10)
    branches = bundle.networks["branches"]
    assert isinstance(branches, Branches)
    images = task.test.images[:5].float() / 255
    found = bundle.features(images)
    for name in ("shallow", "deep"):
        assert found[name].equal(getattr(branches, name)(images))


def test_a_checkpoint_is_asked_for(command, capfd):
    assert command(name="probe") == 2
    assert "nothing to probe: set checkpoint=FILE" in capfd.readouterr().err


def test_without_bias_there_is_no_such_column():
    table = probe_table({"model": {"target": 90.0}}, {"target": 10.0}, "T")
    assert [column.header for column in table.columns] == ["features of", "target"]
