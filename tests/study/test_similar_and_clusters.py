"""Near duplicates and clusters, on images and features that are made for it."""

import torch

from debias.study.clusters import LEAST, clusters_of, set_apart
from debias.study.similar import pairs_alike


def test_copies_are_found_by_features_and_grids_alike():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(300, 64, generator=generator)
    coarse = torch.rand(300, 3, 5, 5, generator=generator)
    images = (255 * torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")).to(torch.uint8)
    # a copy, something that only shows the same, and something that only looks the same
    features[10] = features[3] + 0.1 * torch.randn(64, generator=generator)
    images[10] = (images[3].float() * 0.9 + 5).to(torch.uint8)
    features[20] = features[4]
    images[30] = images[5]
    found = pairs_alike(features, images)
    assert [(one.first, one.second) for one in found] == [(3, 10)]
    assert found[0].cosine > 0.9


def test_clusters_are_of_one_class_and_no_image_is_in_two():
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(400) % 2
    hidden = torch.arange(400) // 2 % 2
    features = torch.randn(400, 16, generator=generator) + 8 * torch.stack([target, hidden], 1).repeat(1, 8)
    found = clusters_of(features, target, seed=1)
    every = torch.cat([places for _, places in found]).tolist()
    assert len(set(every)) == len(every) >= 400 - 2 * (LEAST - 1)
    for label, places in found:
        assert set(target[places].tolist()) == {label} and len(places) >= LEAST
        # what nobody labelled falls into clusters of its own
        assert len(set(hidden[places].tolist())) == 1


def test_small_clusters_are_left_out_and_equal_features_do_no_harm():
    assert clusters_of(torch.randn(20, 4), torch.arange(20) % 2, seed=1) == []
    found = clusters_of(torch.ones(200, 4), torch.zeros(200, dtype=torch.int64), seed=1)
    assert [len(places) for _, places in found] == [200]


def test_what_sets_a_cluster_apart():
    dark = torch.cat([torch.zeros(10, 1), torch.ones(90, 1)]) + torch.linspace(0, 0.1, 100)[:, None]
    properties = {"brightness": dark, "contrast": torch.rand(100, 1), "mean colour": torch.rand(100, 3)}
    assert set_apart(properties, torch.arange(10), torch.arange(100)) == ("less brightness",)
    assert set_apart(properties, torch.arange(10, 100), torch.arange(100)) == ()
