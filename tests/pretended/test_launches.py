"""A step of a stage does not launch more kernels without anybody noticing."""

import pytest

from debias.stages.recipes import STAGES
from tests.pretended.cases import CASES
from tests.pretended.faulty import plant
from tests.pretended.launches import EAGER, counted, launches, recorded

# What may be between a count and the recorded one.
SHARE = 1.2


def test_every_stage_that_trains_is_recorded():
    assert set(recorded()) == {name for name, stage in STAGES.items() if "epochs" in stage.settings}


@pytest.mark.recipe
@pytest.mark.parametrize("stage", counted())
def test_launches_a_step(ran, stage):
    """If what has changed is meant, `python -m tests.pretended.launches` records it."""
    found, before = launches(ran(counted()[stage], *EAGER).seen, stage), recorded()[stage]
    assert found <= SHARE * before, f"a step of {stage} launches {found} kernels, which were {before}"
    # Else it could grow again by as much as it has shrunk.
    assert found >= before / SHARE, f"a step of {stage} launches only {found} kernels, which were {before}"


@pytest.mark.recipe
@pytest.mark.parametrize(
    ("name", "stage", "most"), [("denetdm", "branches", 2), ("erm, many steps a graph", "pretrain", 0.5)]
)
def test_a_captured_step_is_one_launch(ran, name, stage, most):
    """Beside a copy of its positions; where many steps are one graph, together."""
    assert 0 < ran(name).seen.per_step(stage, "replay") <= most


@pytest.mark.recipe
def test_a_step_that_grows_is_seen(run, monkeypatch):
    def fault(features):
        for _ in range(10):
            features = features * 1.0
        return features

    plant(monkeypatch, fault)
    assert launches(run(CASES["erm"], *EAGER).seen, "pretrain") > SHARE * recorded()["pretrain"]
