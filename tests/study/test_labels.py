"""Labels that look wrong: by hand-made probabilities, and planted in features."""

import pytest
import torch

from debias.study.labels import judged, out_of_fold


def planted(count: int, apart: float, wrong: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features [N, 1, 8] of two classes, targets of which the first `wrong` are wrong, and which these are."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(count) % 2
    features = torch.randn(count, 1, 8, generator=generator)
    features[:, 0, 0] += apart * (2 * truth - 1)
    target, flipped = truth.clone(), torch.arange(count) < wrong
    target[flipped] = 1 - target[flipped]
    return features, target, flipped


def test_planted_labels_are_found_where_classes_are_apart():
    features, target, flipped = planted(1000, 4.0, 20)
    found = judged(out_of_fold(features, target, 2, target, seed=1), target)
    assert flipped[found.order[:20]].all()
    assert len(found.order) <= 50 and torch.equal(found.other[found.order[:20]], 1 - target[found.order[:20]])


def test_where_classes_overlap_the_classifier_is_blamed():
    features, target, _ = planted(1000, 0.5, 0)
    probability = out_of_fold(features, target, 2, target, seed=1)
    mistaken = int((probability.argmax(1) != target).sum())
    assert mistaken > 200
    assert len(judged(probability, target).order) < 30


def test_no_image_is_judged_by_a_classifier_that_was_fitted_to_it():
    """Features that are different for every image, and say nothing: who has seen them would know every label."""
    generator = torch.Generator().manual_seed(0)
    features, target = torch.randn(200, 1, 400, generator=generator), torch.arange(200) % 2
    right = out_of_fold(features, target, 2, target, seed=1).argmax(1) == target
    assert 0.3 < float(right.float().mean()) < 0.7


def test_balanced_cells_take_the_shortcut_out():
    """The class shows a little, a shortcut much; images that go against it are told by the class once cells count."""
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(2000) % 2
    looks = torch.where(torch.rand(2000, generator=generator) < 0.03, 1 - target, target)
    features = torch.randn(2000, 1, 4, generator=generator)
    features[:, 0, 0] += 1.5 * (2 * target - 1)
    features[:, 0, 1] += 3.0 * (2 * looks - 1)
    against = looks != target

    def accuracy(cell: torch.Tensor) -> float:
        return float((out_of_fold(features, target, 2, cell, seed=1).argmax(1) == target)[against].float().mean())

    assert accuracy(2 * target + looks) > accuracy(target) + 0.15


def test_others_than_those_fitted_on_are_asked_about():
    features, target, _ = planted(400, 4.0, 0)
    said = out_of_fold(features, target, 2, target, seed=1, asked=-features[:, :1])
    assert float((said.argmax(1) != target).float().mean()) > 0.9


def test_answers_to_several_views_are_averaged():
    features, target, _ = planted(400, 4.0, 0)
    asked = torch.cat([features[:, :1], -features[:, :1]], 1)
    alone = [out_of_fold(features, target, 2, target, seed=1, asked=asked[:, i : i + 1]) for i in (0, 1)]
    both = out_of_fold(features, target, 2, target, seed=1, asked=asked)
    torch.testing.assert_close(both, (alone[0] + alone[1]) / 2)
    assert not torch.allclose(both, alone[0], atol=0.1)


def test_the_surest_come_first_and_five_in_a_hundred_may_disagree():
    # 40 right and sure, then one wrong and nearly as sure, then guesses.
    given = torch.tensor([0.99] * 40 + [0.02] + [0.55, 0.45] * 20)
    target = torch.zeros(len(given), dtype=torch.int64)
    found = judged(torch.stack([given, 1 - given], 1), target)
    # one of 41 disagrees, two of 43 with the next guess, and three of 45, which are too many
    assert found.order.tolist() == [40, 42] and found.wrong.sum() == 2


def some(agreeing: int, contradicting: int) -> torch.Tensor:
    """Probabilities [N, 2] of images of class 0: so many that are surely theirs, then as sure of the other class."""
    given = torch.tensor([0.98] * agreeing + [0.02] * contradicting)
    return torch.stack([given, 1 - given], 1)


@pytest.mark.parametrize(
    ("agreeing", "contradicting", "wrong", "free"),
    [
        (12, 4, 4, True),  # a quarter of them: wrong labels that look like the class that is shown
        (10, 6, 4, True),  # of 14 as sure of the two classes four are fewer than 30 in 100, of 15 five are more
        (7, 9, 0, False),  # contradicted more often than not: the classifier goes by the shortcut
        (3, 4, 4, True),  # too few to tell
    ],
)
def test_images_against_the_shortcut_are_judged_among_themselves(agreeing, contradicting, wrong, free):
    others = some(400, 5)
    probability = torch.cat([others, some(agreeing, contradicting)])
    against = torch.arange(len(probability)) >= len(others)
    target = torch.zeros(len(probability), dtype=torch.int64)
    found = judged(probability, target, against)
    assert found.free is free and int(found.wrong[against].sum()) == wrong
    # Where the classifier is not free of the shortcut, its word counts for nothing elsewhere either.
    assert int(found.wrong[~against].sum()) == (5 if free else 0) == len(found.order) - wrong
    assert judged(probability, target).free
