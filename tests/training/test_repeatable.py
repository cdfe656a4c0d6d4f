"""What is said of operations that are not deterministic; a GPU's warnings are played by ordinary ones."""

import warnings

import pytest
import torch

from debias.training.repeatable import noting_what_is_not, prefer_deterministic

GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def _as_before():
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.allow_tf32
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]
    torch.backends.cudnn.deterministic = False


def test_names_are_noted_once_and_other_warnings_go_on():
    with pytest.warns(UserWarning, match="something else") as passed, noting_what_is_not(GPU) as found:
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        for _ in range(2):
            warnings.warn(
                "cumsum_cuda_kernel does not have a deterministic implementation, but you set ...", stacklevel=1
            )
            warnings.warn("something else", stacklevel=1)
    assert found == ["cumsum_cuda_kernel"] and len(passed) == 2
    assert not torch.are_deterministic_algorithms_enabled()


def test_deterministic_algorithms_stay_chosen_where_all_are():
    with noting_what_is_not(GPU) as found:
        torch.ones(2).cumsum(0)
    assert found == [] and torch.are_deterministic_algorithms_enabled()


def test_on_a_cpu_nothing_is_changed():
    with noting_what_is_not(torch.device("cpu")) as found:
        assert not torch.are_deterministic_algorithms_enabled()
    assert found == []
    prefer_deterministic(torch.device("cpu"), exact=True)
    assert torch.backends.cudnn.allow_tf32 and not torch.backends.cudnn.deterministic


@pytest.mark.parametrize("exact", [True, False])
def test_products_of_exact_stages_are_of_float32_in_full(monkeypatch, exact):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    prefer_deterministic(GPU, exact=exact)
    assert torch.backends.cudnn.deterministic and torch.backends.cudnn.allow_tf32 is not exact
