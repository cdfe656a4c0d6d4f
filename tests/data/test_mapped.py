"""Images that stay in files give the batches that a tensor gives, to the last bit."""

import numpy as np
import pytest
import torch

from debias.data.batches import Batches
from debias.data.mapped import MappedImages, free_memory
from debias.data.split import Split, hold_out


@pytest.fixture
def arrays(tmp_path):
    random = np.random.default_rng(0)
    for name, n in (("a", 30), ("b", 13)):
        np.save(tmp_path / f"{name}.npy", random.integers(0, 256, (n, 3, 8, 8), dtype=np.uint8))
    return [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "ab"]


def splits(arrays, rows=None, **options):
    """The same images in files and in memory."""
    rows = torch.randperm(43, generator=torch.Generator().manual_seed(1))[:40] if rows is None else rows
    images = torch.from_numpy(np.concatenate(arrays))[rows]
    target = rows % 5
    return (
        Split(MappedImages(arrays, rows, **{"streaming": "always"} | options), target, rows % 3, rows),
        Split(images, target, rows % 3, rows),
    )


def epoch(split, **options):
    options = {"augment": "crop_flip", "mean": (0.5,) * 3, "std": (0.2,) * 3} | options
    return list(Batches(split, 7, **options).epoch(torch.Generator().manual_seed(3)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shuffle": False, "augment": None},
        {"drop_last": True},
        {"draws": 95},
        {"weights": torch.arange(40.0)},
        {"augment": "resized_crop_flip"},
    ],
)
def test_the_same_batches(arrays, options):
    in_files, in_memory = splits(arrays)
    ours, theirs = epoch(in_files, **options), epoch(in_memory, **options)
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        for field in ("images", "target", "index", "bias"):
            assert torch.equal(getattr(one, field), getattr(other, field)), field


def test_subsets_read_nothing_and_are_the_same(arrays, monkeypatch):
    in_files, in_memory = splits(arrays)
    index = torch.tensor([39, 0, 0, 17])
    read = MappedImages._read
    monkeypatch.setattr(MappedImages, "_read", lambda *args: pytest.fail("read"))
    part, (train, valid) = in_files.subset(index), hold_out(in_files, 0.2, 0)
    assert part.images.shape == (4, 3, 8, 8)
    monkeypatch.setattr(MappedImages, "_read", read)
    assert torch.equal(part.images[torch.arange(4)], in_memory.images[index])
    for one, other in zip((train, valid), hold_out(in_memory, 0.2, 0), strict=True):
        assert torch.equal(one.ids, other.ids)
        assert torch.equal(one.images[torch.arange(len(one))], other.images)
    mask = in_memory.target == 2
    assert torch.equal(in_files.images[mask], in_memory.images[mask])


@pytest.mark.parametrize(
    ("streaming", "free", "whole"),
    [("auto", 10**9, True), ("auto", 7000, False), ("auto", 2 * 40 * 192, True), ("always", 10**9, False),
     ("never", 0, True)],
)  # fmt: skip
def test_whole_when_it_fits(arrays, streaming, free, whole):
    """40 images of 192 bytes, of which half the free memory may be taken."""
    in_files, in_memory = splits(arrays, streaming=streaming, free=lambda device: free)
    moved = in_files.subset(torch.arange(40)).to("cpu")
    assert isinstance(moved.images, torch.Tensor) is whole
    if isinstance(moved.images, torch.Tensor):
        assert torch.equal(moved.images, in_memory.images)
        # a copy: the files cannot be written to through it
        moved.images.zero_()
        assert in_files.images[torch.arange(40)].any()


def test_free_memory_is_known_here():
    assert 2**20 < free_memory(torch.device("cpu")) < 2**50


def test_a_pass_that_is_given_up_ends_its_reader(arrays):
    import threading

    in_files, _ = splits(arrays)
    batches = Batches(in_files, 4).epoch(torch.Generator().manual_seed(0))
    next(batches)
    assert any(thread.name.startswith("stream") for thread in threading.enumerate())
    batches.close()
    del batches
    assert not any(thread.name.startswith("stream") for thread in threading.enumerate())
