"""DeNetDM and DCWP end to end on a small part of Corrupted CIFAR-10 made from the real images, killed and resumed."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from debias import main
from tests.pipeline import run_and_die, same

ZIP = Path(os.environ.get("DATA_DIR", "")) / "cifar10_jpeg.zip"
pytestmark = [
    pytest.mark.real,
    pytest.mark.recipe,
    pytest.mark.skipif(not ZIP.is_file(), reason="DATA_DIR has no cifar10_jpeg.zip"),
]
# The papers' kinds of networks, the ones that a processor can train: ResNet-20 for both stages' deep networks, the
# shallow convolutions; DCWP's own on the same.
METHODS = {
    "denetdm": [
        "denetdm", "branches.epochs=2", "branches.batch_size=50", "distill.epochs=1", "distill.batch_size=100",
        "distill.network=resnet20",
    ],
    "dcwp": [
        "dcwp", *(f"{stage}.network=shallow_cifar" for stage in ("pretrain", "mine_ensemble")),
        *(f"{stage}.steps=0" for stage in ("pretrain", "prune", "finetune")),
        *(f"{stage}.epochs=2" for stage in ("pretrain", "mine_ensemble", "prune", "finetune")),
        *(f"{stage}.batch_size=100" for stage in ("pretrain", "mine_ensemble", "prune", "finetune")),
    ],
}  # fmt: skip
KILLED = {"denetdm": "branches", "dcwp": "mine_ensemble"}
READ_OUTS = {"denetdm": ("poe", "shallow", "deep", "target"), "dcwp": ("model", "biased", "pruned", "target")}


def line(method: str, store: Path, cache: Path) -> list[str]:
    return [
        "with", "corrupted_cifar10", "type0", "skewed1", "severity4", "limit=200", "device=cpu", "threads=1",
        "progress=False", "checkpoint_seconds=0.0", f"store={store}", f"cache_dir={cache}", *METHODS[method],
        f"data_dir={os.environ['DATA_DIR']}",  # a process of another kind may know another folder
    ]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_end_to_end_and_resumed(processes, tmp_path, method):
    cache, stage = tmp_path / "cache", KILLED[method]
    output = tmp_path / "stderr.txt"
    words = (stage, 1, 1, line(method, tmp_path / "cut", cache), str(output))
    process = processes.Process(target=run_and_die, args=words)
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL, output.read_text()
    assert not list((tmp_path / "cut" / "stages").glob(f"{stage}-*/done.json"))

    for store in ("cut", "whole"):
        assert main.main(line(method, tmp_path / store, cache)) == 0
    stages = json.loads((tmp_path / "whole" / "1" / "info.json").read_text())["stages"]
    for name in stages:
        results = [next((tmp_path / store / "stages").glob(f"{name}-*/result.pt")) for store in ("cut", "whole")]
        same(*(torch.load(path, weights_only=True) for path in results))
    summary = json.loads((tmp_path / "whole" / "1" / "info.json").read_text())["summary"]
    for read_out in READ_OUTS[method]:
        for figure in ("unbiased", "aligned", "conflicting"):
            assert 0 <= summary[f"{read_out}/{figure}/last"] <= 100
    assert all(
        set(about["speed"]) in ({"channels_last", "bfloat16", "compile", "graph"}, set()) for about in stages.values()
    )
    assert (tmp_path / "whole" / "1" / "weights.safetensors").is_file()
