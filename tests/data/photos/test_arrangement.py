"""Which folders are classes and which are parts, by their names and by what they hold."""

import shutil

import pytest

from debias.data.loading import load_task
from debias.data.photos.arrangement import arranged, part_of
from debias.errors import UserError
from tests import photos
from tests.data.photos.test_layouts import settings as any_settings


def made(root, tops, classes=("cats", "dogs")):
    """Different images in every folder."""
    for place, top in enumerate(tops):
        for target, name in enumerate(classes):
            for number in range(8):
                photos.save(root / top / name / f"{number}.jpg", target, 0, 100 * place + number)
    return root


def settings(tmp_path, **more):
    return any_settings(tmp_path, "own_images", **{"duplicates": "stop", **more})


@pytest.mark.parametrize(
    "tops",
    [
        ("training_set", "test_set"),
        ("seg_train", "seg_test"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train/images", "test/images"),
        ("TrainImages", "TestImages"),
        ("trainset", "testset"),
        ("animals/train", "animals/val"),
        ("a/b/train2017", "a/b/val2017"),
    ],
)
def test_split_folders_are_parts_and_not_classes(tmp_path, tops):
    made(tmp_path / "in", tops)
    task = load_task(settings(tmp_path))
    assert task.target_names == ("cats", "dogs")
    assert (len(task.train), len(task.test)) == (16, 16)
    assert all(tops[0] in name for name in task.files)
    usual = tops[0].rsplit("/", 1)[-1] in ("train", "images")
    note = "folders read as parts, as their names begin or end so: 1 train, 1 "
    assert any(found.startswith(note) for found in task.notes) != usual


@pytest.mark.parametrize(
    ("tops", "says"),
    [
        (("validation", "test"), "no train images"),
        (("cats", "dogs", "test"), "no train images|fewer than two classes"),
        (
            ("fold1", "fold2"),
            "fold1, fold2 all hold the folders cats, dogs, so it cannot be said which are the classes",
        ),
        (("train_a", "train_b"), "train_a, train_b all hold"),
        (("around/day", "around/night"), "in/around: the folders day, night all hold"),
        (("train",), "no test images"),
    ],
)
def test_what_cannot_be_said_is_refused(tmp_path, tops, says):
    made(tmp_path / "in", tops)
    with pytest.raises(UserError, match=says):
        load_task(settings(tmp_path))


@pytest.mark.parametrize("tops", [("train", "test"), ("my_train", "my_test"), ("train", "val", "test")])
def test_parts_without_classes_are_not_classes(tmp_path, tops):
    made(tmp_path / "in", ("",), tops)
    with pytest.raises(UserError, match=r"images of fewer than two classes \(none\)"):
        load_task(settings(tmp_path))


@pytest.mark.parametrize(
    "classes",
    [
        ("bus", "car", "train"),
        ("car", "train"),
        ("test", "good"),
        ("test_strip", "test_tube"),
        ("train station", "bus"),
    ],
)
@pytest.mark.parametrize("around", ["", "photos", "a/b"])
def test_a_class_may_be_called_like_a_part(tmp_path, classes, around):
    made(tmp_path / "in", (around,), classes)
    assert load_task(settings(tmp_path)).target_names == tuple(sorted(classes))


@pytest.mark.parametrize("kind", ["zip", "gztar", None])
def test_one_folder_around_is_passed_through(tmp_path, kind):
    made(tmp_path / "packed" / "photos", ("",))
    (tmp_path / "packed" / "README.txt").write_text("beside the folder: of no concern")
    place = tmp_path / "packed"
    if kind is not None:
        place = shutil.make_archive(str(tmp_path / "set"), kind, tmp_path / "packed")
    assert load_task(settings(tmp_path, data_dir=str(place))).target_names == ("cats", "dogs")


def test_folders_in_classes_are_no_classes(tmp_path):
    made(tmp_path / "in" / "cats", ("",), ("indoor", "garden"))
    made(tmp_path / "in" / "dogs", ("",), ("indoor", "street"))
    assert arranged(tmp_path, ["cats/indoor/1.jpg", "dogs/street/1.jpg"]).place("cats/indoor/1.jpg") == ("cats", None)
    task = load_task(settings(tmp_path, duplicates="keep"))
    assert task.target_names == ("cats", "dogs")


def test_names_of_parts():
    assert [part_of(name) for name in ("X_train", "Testing", "dev-set", "val2017")] == [
        "train",
        "test",
        "valid",
        "valid",
    ]
    for name in ("trainers", "contest", "valley", "latest", "mid train yard", "②", "", "device"):
        assert part_of(name) is None, name
