"""The second modality of a split stays beside its image wherever the image goes."""

import pytest
import torch

from debias.data.batches import Batches
from debias.data.split import Split, Task, hold_out


def make_split(n: int = 40) -> Split:
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 2, 2).contiguous()
    return Split(images, torch.arange(n) % 4, None, torch.arange(n), torch.arange(n).float()[:, None].expand(n, 3) / 10)


def together(images: torch.Tensor, vector: torch.Tensor | None) -> bool:
    assert vector is not None
    return torch.allclose(images[:, 0, 0, 0].float() / 10, vector[:, 0]) and vector.shape == (len(images), 3)


def test_subsets_hold_outs_and_moves_keep_it():
    split = make_split()
    assert together(split.images, split.vector)
    part = split.subset(torch.tensor([5, 1, 1]))
    assert part.vector is not None and part.vector[:, 2].tolist() == pytest.approx([0.5, 0.1, 0.1])
    for half in (*hold_out(split, 0.3, seed=1), split.without_bias(), split.to("cpu")):
        assert together(half.images, half.vector)


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_carry_it_and_say_what_a_network_is_given(shuffle: bool):
    split = make_split()
    for batch in Batches(split, 16, shuffle=shuffle).epoch(torch.Generator().manual_seed(0)):
        assert batch.vector is not None
        images, vector = batch.inputs
        assert vector is batch.vector and images is batch.images
        assert together(batch.images * 255, batch.vector)


def test_without_one_a_network_is_given_images_alone():
    plain = Split(make_split().images, make_split().target, None, make_split().ids)
    batch = next(Batches(plain, 4).epoch())
    assert batch.vector is None
    assert batch.inputs is batch.images


def test_a_task_knows_its_length():
    split = make_split()
    plain = Split(split.images, split.target, None, split.ids)
    assert Task("two", split, split, None, ("a",), None, "key").vector_size == 3
    assert Task("one", plain, plain, None, ("a",), None, "key").vector_size == 0


@pytest.mark.parametrize("vector", [torch.zeros(40), torch.zeros(39, 3), torch.zeros(40, 3).double()])
def test_a_vector_of_a_wrong_shape_or_type_is_refused(vector: torch.Tensor):
    split = make_split()
    with pytest.raises(ValueError, match="vector must be float32"):
        Split(split.images, split.target, None, split.ids, vector)
