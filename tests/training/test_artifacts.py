"""Artifacts: values of the declared types only, by their kind, and the same after they were stored."""

from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest
import torch

from debias.stages.recipes import STAGES
from debias.training.artifacts import Artifact, BiasLabels, ConflictScore, Mask, Report, from_plain, take, to_plain
from tests.pipeline import same

IDS, SCORE = torch.arange(3), torch.rand(3)
SCORES = ConflictScore(IDS, SCORE, 0.5, "mine_test")


def test_every_kind_is_a_frozen_dataclass():
    assert STAGES  # with which the stages' own kinds are declared
    for kind in Artifact.kinds.values():
        assert is_dataclass(kind) and kind.__dataclass_params__.frozen, kind
        assert "artifact" not in {one.name for one in fields(kind)}
    with pytest.raises(FrozenInstanceError):
        SCORES.threshold = 0.1


@pytest.mark.parametrize(
    "make",
    [
        lambda: ConflictScore(IDS, SCORE, "0.5", "mine_test"),
        lambda: ConflictScore(IDS, SCORE.double(), 0.5, "mine_test"),
        lambda: ConflictScore(IDS, SCORE[:2], 0.5, "mine_test"),
        lambda: ConflictScore(IDS.float(), SCORE, 0.5, "mine_test"),
        lambda: BiasLabels(IDS, SCORE, 2, "pseudo"),
        lambda: BiasLabels(IDS, IDS, None, "pseudo"),
        lambda: Mask([SCORE]),
        lambda: Report(summary=[1.0]),
    ],
)
def test_a_field_of_another_type_is_refused(make):
    with pytest.raises(TypeError):
        make()


def test_an_artifact_is_taken_by_its_kind():
    assert take({"conflict_score": SCORES}, "conflict_score", ConflictScore) is SCORES
    with pytest.raises(TypeError, match="the artifact bias is a ConflictScore, not a BiasLabels"):
        take({"bias": SCORES}, "bias", BiasLabels)
    with pytest.raises(KeyError, match="mask"):
        take({"bias": SCORES}, "mask", Mask)


def test_plain_data_holds_the_kind_and_every_field():
    plain = to_plain(SCORES)
    assert list(plain) == ["artifact", "ids", "score", "threshold", "miner", "log_odds"]
    same(from_plain(plain), SCORES)


def test_figures_are_added_without_a_change_of_the_report():
    report = Report(summary={"a/b/last": 1.0}, starts=2)
    more = report.with_figures({"c/d/last": 2.0}, {"e/f/last": 3.0})
    assert more.summary == {"a/b/last": 1.0, "c/d/last": 2.0, "e/f/last": 3.0} and more.starts == 2
    assert report.summary == {"a/b/last": 1.0}
