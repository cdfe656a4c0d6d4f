"""CelebA's blond task: groups, the drawn conflicting images, both kinds of lists, and what is refused."""

import shutil

import numpy as np
import pytest
import torch

from debias.data.loading import load_task
from debias.errors import UserError
from tests import photos
from tests.data.photos.test_layouts import settings as any_settings

# (blond, male): 30 blond women and 30 men who are not blond are aligned.
GROUPS = {(1, 0): 30, (0, 1): 30, (0, 0): 20, (1, 1): 10}


@pytest.fixture
def root(tmp_path):
    return photos.celeba(tmp_path / "in" / "celeba", GROUPS)


def settings(tmp_path, **more):
    return any_settings(tmp_path, "celeba", **{"skew": 0.1, **more})


def cells(split):
    """Images by (target, bias)."""
    return torch.bincount(split.target * 2 + split.bias, minlength=4).view(2, 2).tolist()


def test_aligned_images_and_a_share_of_conflicting_ones(tmp_path, root):
    task = load_task(settings(tmp_path))
    assert task.target_names == ("not blond", "blond") and task.bias_names == ("male", "female")
    # 30 aligned images a class, and n of 30 + n conflicting: n = round(30 * .1 / .9) = 3
    assert cells(task.train) == [[30, 3], [3, 30]]
    assert cells(task.test) == [[4, 4], [4, 4]]
    assert task.valid is None and task.augment == "portrait_crop_flip"
    valid = load_task(settings(tmp_path, own_valid=True)).valid
    assert valid is not None and cells(valid) == [[4, 4], [4, 4]]


def test_pixels_belong_to_their_labels(tmp_path, root):
    """The ground of an image tells its `male`, which the maker drew as the bias."""
    task = load_task(settings(tmp_path, image_size=44))
    images = task.train.images[torch.arange(len(task.train))].float()
    red = images[:, 0, :4].mean((1, 2)) > images[:, 2, :4].mean((1, 2))
    # COLOURS[0], reddish, is not male; bias 1 is female
    assert torch.equal(red, task.train.bias == 1)


def test_the_draw_is_the_seeds(tmp_path, root):
    first, again, other = (load_task(settings(tmp_path, seed=seed)) for seed in (1, 1, 2))
    assert first.key == again.key != other.key
    assert first.files == again.files != other.files
    # what is aligned is not drawn, and decoded only once
    assert set(first.files[:60]) == set(other.files[:60])
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 4


@pytest.mark.parametrize(
    ("skew", "says"), [(0.3, "blond, and there are 10: at most skew=0.25"), (1.0, "less than all")]
)
def test_more_conflicting_images_than_there_are(tmp_path, root, skew, says):
    with pytest.raises(UserError, match=says):
        load_task(settings(tmp_path, skew=skew))


def as_csv(root):
    """Kaggle's form of the two lists, and the images in their own archive."""
    lines = (root / "list_attr_celeba.txt").read_text().splitlines()
    rows = [line.split() for line in lines[2:]]
    photos.table(root / "list_attr_celeba.csv", rows, ["image_id", *lines[1].split()])
    rows = [line.split() for line in (root / "list_eval_partition.txt").read_text().splitlines()]
    photos.table(root / "list_eval_partition.csv", rows, ["image_id", "partition"])
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        (root / name).unlink()
    shutil.make_archive(str(root / "img_align_celeba"), "zip", root, "img_align_celeba")
    shutil.rmtree(root / "img_align_celeba")


def packed(root):
    shutil.make_archive(str(root), "zip", root)
    shutil.rmtree(root)


def bare(root):
    for path in root.iterdir():
        shutil.move(path, root.parent / path.name)
    root.rmdir()


@pytest.mark.parametrize("change", [as_csv, packed, bare])
def test_every_form_is_the_same_data(tmp_path, root, change):
    before = load_task(settings(tmp_path)).key
    change(root)
    assert load_task(settings(tmp_path, cache_dir=str(tmp_path / "other"))).key == before


@pytest.mark.parametrize("given", [False, True])
def test_metadata_csv(tmp_path, root, given):
    """It says itself which images are used: nothing is drawn. -1 and 0 both mean no."""
    rows = [(f"{number:06d}.jpg", split, blond, male) for number, (split, blond, male) in enumerate(
        [(0, 1, -1), (0, 0, 1), (0, -1, 0), (2, 1, 1), (1, 1, 1)], 1)]  # fmt: skip
    name = "mine.csv" if given else "metadata_blonde_subsampled.csv"
    photos.table(root / name, rows, ["image_id", "split", "Blond_Hair", "Male"])
    if not given:
        (root / "list_attr_celeba.txt").unlink()
    task = load_task(settings(tmp_path, skew=0.01, labels="mine.csv" if given else None))
    assert cells(task.train) == [[1, 1], [0, 1]]
    assert cells(task.test) == [[0, 0], [1, 0]]


def test_images_that_are_missing_are_listed(tmp_path, root):
    (root / "img_align_celeba" / "000001.jpg").unlink()
    with pytest.raises(UserError, match="img_align_celeba/000001.jpg: no such file"):
        load_task(settings(tmp_path))
    assert cells(load_task(settings(tmp_path, bad_files="skip")).train) == [[30, 3], [3, 29]]


def lose_column(root):
    lines = (root / "list_attr_celeba.txt").read_text().replace("Male", "Mail")
    (root / "list_attr_celeba.txt").write_text(lines)


def lose_value(root):
    lines = (root / "list_attr_celeba.txt").read_text().splitlines()
    (root / "list_attr_celeba.txt").write_text("\n".join([*lines[:5], lines[5].rsplit(" ", 1)[0], *lines[6:]]))


def strange_value(root):
    text = (root / "list_eval_partition.txt").read_text()
    (root / "list_eval_partition.txt").write_text(text.replace("000001.jpg 0", "000001.jpg 7"))


def lose_line(root):
    lines = (root / "list_attr_celeba.txt").read_text().splitlines()
    (root / "list_attr_celeba.txt").write_text("\n".join(lines[:-1]))


def lose_list(root):
    (root / "list_attr_celeba.txt").unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lose_column, "list_attr_celeba.txt has no column Male"),
        (lose_value, r"list_attr_celeba.txt: entry 4 \(000004.jpg\) has 2 values instead of 3"),
        (strange_value, "list_eval_partition.txt, image 000001.jpg: '7' is none of 0, 1, 2"),
        (lose_line, "list_attr_celeba.txt has no line for"),
        (lose_list, "lacks list_attr_celeba.txt"),
    ],
)
def test_damaged_lists(tmp_path, root, damage, says):
    damage(root)
    with pytest.raises(UserError, match=says):
        load_task(settings(tmp_path))


def test_no_pickle_is_read(tmp_path, root):
    """A list that is an array of objects is a text like any other."""
    np.save(root / "list_eval_partition.npy", np.array([{}], dtype=object), allow_pickle=True)
    (root / "list_eval_partition.npy").rename(root / "list_eval_partition.txt")
    with pytest.raises(UserError, match="list_eval_partition.txt"):
        load_task(settings(tmp_path))
