"""Whether runs that were trained simultaneously have the numbers of runs by themselves."""

import pytest
import torch

from debias.training.artifacts import Artifact


def states(outcome):
    """Every tensor of real numbers among the artifacts, by where it stands: weights of every selection, scores."""
    found = {}

    def look(content, place):
        if isinstance(content, Artifact):
            look(vars(content), place)
        elif isinstance(content, dict):
            for name, value in content.items():
                look(value, (*place, name))
        elif isinstance(content, torch.Tensor) and content.is_floating_point() and content.numel():
            found[place] = content

    look(outcome.artifacts, ())
    return found


def differ(one, other):
    """The largest difference of any number, at the last epoch or of scores; others may choose other epochs."""
    assert states(one).keys() == states(other).keys() and states(one)
    places = [place for place in states(one) if "states" not in place or "last" in place]
    return max(float((states(one)[place] - states(other)[place]).abs().max()) for place in places)


def same_to_float_tolerance(together, alone):
    """A step of Adam moves every weight by the learning rate, 1e-3, also where its gradient is rounding alone."""
    for many, one in zip(together, alone, strict=True):
        assert differ(many, one) < 5e-4
        for stage in one.stages:
            rows = zip(many.stages[stage].report.history, one.stages[stage].report.history, strict=True)
            for found, wanted in rows:
                assert found.keys() == wanted.keys()
                assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-3)
    assert differ(alone[0], alone[-1]) > 1e-2, "seeds are different trainings"
