"""Every recipe and command on a device that pretends to be a GPU: nothing is refused, no step waits for the host."""

import pytest
import torch

from tests.pipeline import same
from tests.pretended.cases import CASES, trained_stages
from tests.pretended.faulty import plant
from tests.pretended.launches import counted

STEPS = ("train", "replay", "eval")
# Every stage that trains, and what captured steps may have beside: other rates, many steps a graph, several seeds.
CAPTURED = [
    *dict.fromkeys(counted().values()),
    "erm, a falling rate",
    "erm, many steps a graph",
    "group_dro, vectors",
    "replicas, denetdm",
]


@pytest.mark.recipe
@pytest.mark.parametrize("name", CASES)
def test_nothing_is_refused_and_no_step_waits(ran, name):
    found = ran(name)
    assert found.status == ([130, 0] if found.case.interrupted else [0] * len(found.case.commands))
    assert not found.seen.of("refused")
    waits = [event for event in found.seen.events if event.kind in ("wait", "copy in") and event.phase in STEPS]
    assert not waits
    last = trained_stages(found.case)[-1]
    streamed = "streaming=always" in found.case.commands[0]
    assert found.seen.steps[last, "train" if streamed else "replay"] > 0


@pytest.mark.recipe
@pytest.mark.parametrize("name", CAPTURED)
def test_captured_steps_give_the_same_numbers(ran, name):
    """Weights, figures and histories, to the last bit."""
    captured, eager = ran(name), ran(name, "graph=off")
    assert eager.status == [0] and not eager.seen.captures
    names = {path.name for path in eager.stages.iterdir()}
    assert {name.rsplit("-", 1)[0] for name in names} >= set(trained_stages(captured.case))
    for name in names:
        one, other = (torch.load(ran.stages / name / "result.pt") for ran in (captured, eager))
        speeds = [result["report"].pop("speed") or {"graph": graph} for result, graph in ((one, True), (other, False))]
        assert [speed.pop("graph") for speed in speeds] == [True, False] and speeds[0] == speeds[1]
        same(one, other)


@pytest.mark.recipe
def test_the_comparison_sees_a_number_of_python_that_changes(run, monkeypatch):
    """What a graph repeats as it was when it was recorded; nothing else would notice."""
    calls = []

    def fault(features):
        calls.append(1)
        return features * len(calls)

    plant(monkeypatch, fault)
    found = {}
    for graph in ("auto", "off"):
        calls.clear()
        ran = run(CASES["erm"], f"graph={graph}", "fresh=True")
        (folder,) = ran.stages.glob("pretrain-*")
        found[graph] = torch.load(folder / "result.pt")["report"]["history"]
    with pytest.raises(AssertionError):
        same(found["auto"], found["off"])
