"""No stage waits for the device inside a training step."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from debias.data.batches import Batch, Batches
from debias.data.loading import load_task
from debias.stages.recipes import STAGES, stages_of
from debias.training.store import Store
from debias.training.walk import run_stages
from tests.pipeline import method_with, short

TRAINED = [name for name, stage in STAGES.items() if "epochs" in stage.settings]
# On an accelerator each of these asks the device for a value, or for the size of its result.
SYNCS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "bincount", "equal", "is_nonzero"}


class Refusing(TorchDispatchMode):
    """Refuses what would be a host sync on an accelerator, on the CPU too."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        chosen = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else ()
        masks = [index for index in chosen if index is not None and index.dtype in (torch.bool, torch.uint8)]
        assert name not in SYNCS and not masks, f"a host sync in a training step: {func}"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def steps(monkeypatch) -> list[int]:
    """Watch every training step after an epoch's first (in which optimisers make their state); counts the watched."""
    watched = [0]
    epoch = Batches.epoch

    def watching(self: Batches, generator: torch.Generator | None = None) -> Iterator[Batch]:
        cuda = self.split.device.type == "cuda"
        batches = epoch(self, generator)
        if not self.shuffle:
            yield from batches
            return
        yield next(batches)
        mode = Refusing()
        if cuda:
            torch.cuda.set_sync_debug_mode("error")
        try:
            with mode:
                for batch in batches:
                    watched[0] += 1
                    yield batch
        finally:
            if cuda:
                torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Batches, "epoch", watching)
    return watched


@pytest.mark.recipe
@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"))],
)
@pytest.mark.parametrize("stage", TRAINED)
def test_no_host_sync_in_a_step(tiny, tmp_path, steps, stage, device):
    settings = tiny(*short(method_with(stage), 1), f"device={device}", "graph=off")
    last = None if method_with(stage).startswith("[") else stage
    stages = stages_of(settings["method"], last, settings["dataset"])
    store = Store(tmp_path / "stages")
    run_stages(
        stages, load_task(settings), settings, torch.device(device), store, say=lambda line: None, progress=False
    )
    assert steps[0] >= 3


@pytest.mark.parametrize(
    "sync",
    [
        lambda x: x.sum().item(),
        lambda x: float(x[0]),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.masked_fill_(x > 0, 1.0)[x > 0].sum(),
        lambda x: torch.masked_select(x, x > 0),
        lambda x: torch.bincount(x.long()),
    ],
)
def test_the_watch_sees_syncs(sync):
    with pytest.raises(AssertionError, match="host sync"), Refusing():
        sync(torch.ones(3))
    with Refusing():
        torch.where(torch.ones(3) > 0, 1.0, 0.0).mul_(2).index_select(0, torch.tensor([0, 2]))
