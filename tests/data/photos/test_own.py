"""The user's own images: class folders and CSVs, the drawn test set, and everything that can be wrong with them."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from debias.data.loading import load_task
from debias.data.photos.own import sorted_names, tied
from debias.errors import UserError
from tests import photos
from tests.data.photos.test_layouts import settings as any_settings


@pytest.fixture
def root(tmp_path):
    return photos.class_folders(tmp_path / "in")


def settings(tmp_path, **more):
    return any_settings(tmp_path, "own_images", **{"duplicates": "stop", **more})


def labels(root, columns=("path", "target", "bias"), change=lambda number, row: row):
    """A CSV of the class folders: class and ground."""
    rows = []
    for target, name in enumerate(("cow", "camel")):
        for number in range(20):
            ground = ("grass", "sand")[target if number % 10 else 1 - target]
            row = {"path": f"{name}/photo {number}.jpg", "target": name, "bias": ground, "split": "train"}
            rows.append(change(number, row))
    return photos.table(root / "labels.csv", [[row[column] for column in columns] for row in rows], columns)


def test_class_folders(tmp_path, root):
    task = load_task(settings(tmp_path))
    assert task.target_names == ("camel", "cow") and task.bias_names is None and task.train.bias is None
    # a fifth of 20 a class
    assert torch.bincount(task.train.target).tolist() == [16, 16]
    assert torch.bincount(task.test.target).tolist() == [4, 4]
    assert task.image_shape == (3, 24, 24) and task.augment == "resized_crop_flip"
    for name, target in zip(task.files, task.train.target.tolist(), strict=True):
        assert f"/{task.target_names[target]}/" in name


def test_the_test_images_are_those_of_every_seed_and_stay_when_images_come(tmp_path, root):
    first, other = (load_task(settings(tmp_path, seed=seed)) for seed in (1, 2))
    assert first.files == other.files
    photos.save(root / "cow" / "new.jpg", 0, 0, 500)
    later = load_task(settings(tmp_path))
    assert set(first.files) - set(later.files) <= {str(root / "cow" / f"photo {n}.jpg") for n in range(20)}
    assert len(set(first.files) - set(later.files)) <= 1


@pytest.mark.parametrize("names", [("train", "test"), ("train", "val"), ("Training", "Testing", "validation")])
def test_folders_for_parts(tmp_path, names):
    photos.class_folders(tmp_path / "in" / names[0])
    for number, name in enumerate(names[1:]):
        photos.class_folders(tmp_path / "in" / name, each=5 + number)
        for path in (tmp_path / "in" / name).rglob("*.jpg"):
            path.write_bytes(path.read_bytes() + name.encode())  # no duplicates
    task = load_task(settings(tmp_path))
    assert (len(task.train), len(task.test)) == (40, 10)
    assert (0 if task.valid is None else len(task.valid)) == (12 if len(names) == 3 else 0)
    assert any("validation images are the test set" in note for note in task.notes) == (names[1:] == ("val",))


def test_an_archive(tmp_path, root):
    shutil.make_archive(str(tmp_path / "mine"), "zip", root)
    packed = load_task(settings(tmp_path, data_dir=str(tmp_path / "mine.zip")))
    assert packed.key == load_task(settings(tmp_path)).key


def test_a_table(tmp_path, root):
    labels(root)
    task = load_task(settings(tmp_path, labels="labels.csv"))
    assert task.target_names == ("camel", "cow") and set(task.bias_names) == {"grass", "sand"}
    assert len(task.train) + len(task.test) == 40
    for name, target, bias in zip(task.files, task.train.target.tolist(), task.train.bias.tolist(), strict=True):
        number, animal = int(name.rsplit(" ", 1)[1].split(".")[0]), task.target_names[target]
        usual = {"cow": "grass", "camel": "sand"}[animal]
        assert (task.bias_names[bias] == usual) is (number % 10 != 0)


def test_aligned_is_what_most_images_of_a_class_have(tmp_path, root):
    """Camels on sand and cows on grass, though names in order of the alphabet would pair them the other way."""
    labels(root)
    task = load_task(settings(tmp_path, labels="labels.csv"))
    assert task.target_names == ("camel", "cow") and task.bias_names == ("sand", "grass")
    assert 0.05 < float((task.train.bias != task.train.target).float().mean()) < 0.15
    # a bias that no class is tied to comes last
    pairs = [("a", "sand")] * 15 + [("a", "fog")] * 4 + [("b", "grass")] * 15 + [("b", "fog")] * 4
    order, ties = tied(("a", "b"), ("fog", "grass", "sand"), pairs)
    assert order == ("sand", "grass", "fog") and ties.tolist() == [[1, -1, 0], [-1, 1, 0]]


def test_a_table_without_biases_and_with_parts(tmp_path, root, monkeypatch):
    # Where published data are says nothing of the user's own.
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    parts = ("train", "train", "valid", "test")
    labels(root, ("path", "target", "split"), lambda number, row: row | {"split": parts[number % 4]})
    task = load_task(settings(tmp_path, labels=str(root / "labels.csv"), data_dir=None))
    assert task.train.bias is None
    assert (len(task.train), len(task.test)) == (20, 10)
    assert task.valid is not None and len(task.valid) == 10 and task.selection == "valid_given"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_spreadsheets(tmp_path, root, delimiter):
    text = labels(root).read_text(encoding="utf-8").replace(",", delimiter)
    (root / "labels.csv").write_text("\ufeff" + text.replace("path", "Path", 1), encoding="utf-8")
    assert len(load_task(settings(tmp_path, labels="labels.csv")).train) == 32


def test_numbers_are_classes_in_their_order(tmp_path, root):
    labels(root, change=lambda number, row: row | {"target": str(number % 2 * 9 + 1)})
    assert load_task(settings(tmp_path, labels="labels.csv")).target_names == ("1", "10")


@pytest.mark.parametrize("way", ["../secret.jpg", "{outside}/secret.jpg", "link.jpg", "cow/../../secret.jpg"])
def test_paths_that_lead_out(tmp_path, root, way):
    (tmp_path / "outside").mkdir()
    photos.save(tmp_path / "outside" / "secret.jpg", 0, 0, 77)
    shutil.copy(tmp_path / "outside" / "secret.jpg", tmp_path / "secret.jpg")
    (root / "link.jpg").symlink_to(tmp_path / "outside" / "secret.jpg")
    path = way.format(outside=tmp_path / "outside")
    labels(root, change=lambda number, row: row | ({"path": path} if (number, row["target"]) == (3, "cow") else {}))
    with pytest.raises(UserError, match=r"paths that lead out of .*\n.*line 5: .*\n.*outside=True"):
        load_task(settings(tmp_path, labels="labels.csv"))
    task = load_task(settings(tmp_path, labels="labels.csv", outside=True))
    assert len(task.train) + len(task.test) == 40


def test_what_is_wrong_is_listed_or_left_out(tmp_path, root):
    def spoil(number, row):
        if row["target"] == "cow":
            row |= {3: {"target": " "}, 5: {"bias": ""}, 7: {"path": "cow/none.jpg"}, 9: {"path": "cow/notes.txt"}}.get(
                number, {}
            )
        return row

    labels(root, change=spoil)
    with pytest.raises(UserError, match="4 unusable files") as caught:
        load_task(settings(tmp_path, labels="labels.csv"))
    for part in ("line 5: no target", "line 7: no bias", "none.jpg: no such file", "notes.txt: wrongly named"):
        assert part in str(caught.value)
    task = load_task(settings(tmp_path, labels="labels.csv", bad_files="skip"))
    assert len(task.train) + len(task.test) == 36 and len(task.notes) == 5


def test_broken_files(tmp_path, root):
    (root / "cow" / "photo 3.jpg").write_bytes((root / "cow" / "photo 3.jpg").read_bytes()[:300])
    (root / "cow" / "photo 4.jpg").write_bytes(b"")
    (root / "camel" / "photo 5.jpg").write_text("a text")
    (root / "camel" / "notes.doc").write_text("a text")
    (root / "notes.txt").write_text("beside the folders: of no concern")
    with pytest.raises(UserError, match="1 unusable files:\n.*notes.doc: wrongly named"):
        load_task(settings(tmp_path))
    (root / "camel" / "notes.doc").unlink()
    with pytest.raises(UserError, match="3 broken files") as caught:
        load_task(settings(tmp_path))
    for part in ("photo 3.jpg: ", "photo 4.jpg: empty file", "photo 5.jpg: not an image"):
        assert part in str(caught.value)
    task = load_task(settings(tmp_path, bad_files="skip"))
    assert len(task.train) + len(task.test) == 37
    # ids are places in the whole list, whatever is left out
    left = set(range(len(task.files))) - set(task.train.ids.tolist())
    assert {task.files[i].rsplit("/", 1)[1] for i in left} <= {f"photo {n}.jpg" for n in (3, 4, 5)}


def test_a_long_list_is_written_down(tmp_path, root):
    for number in range(30):
        (root / "cow" / f"bad {number:02d}.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"30 broken files:\n(.*\n){20}  and 10 more; all of them: .*broken-files.csv"):
        load_task(settings(tmp_path))
    written = (tmp_path / "cache" / "broken-files.csv").read_text().splitlines()
    assert len(written) == 31 and written[0] == "path,what"


def test_images_of_one_colour_are_said(tmp_path, root):
    assert load_task(settings(tmp_path)).notes == ()
    Image.new("RGB", (40, 40), (1, 2, 3)).save(root / "cow" / "photo 3.jpg")
    (note,) = load_task(settings(tmp_path)).notes
    assert note == f"1 image is of one colour throughout, the first: {root / 'cow' / 'photo 3.jpg'}"
    for number in range(20):
        Image.new("RGB", (40, 40), (number, 0, 0)).save(root / "cow" / f"photo {number}.jpg")
    first, second = load_task(settings(tmp_path, duplicates="keep")).notes
    assert first.startswith("20 images are of one colour") and second.startswith("every image of class cow is of one")


def test_duplicates(tmp_path, root):
    shutil.copy(root / "cow" / "photo 3.jpg", root / "cow" / "again.jpg")
    shutil.copy(root / "cow" / "photo 4.jpg", root / "camel" / "other class.jpg")
    with pytest.raises(UserError, match="3 duplicated files") as caught:
        load_task(settings(tmp_path))
    assert "duplicates=skip" in str(caught.value) and "the same image as " in str(caught.value)
    assert str(caught.value).count("labelled otherwise") == 2
    keep = load_task(settings(tmp_path, duplicates="keep"))
    assert len(keep.train) + len(keep.test) == 42
    skip = load_task(settings(tmp_path, duplicates="skip"))
    # one of the equal pair, and neither of the pair that contradicts itself
    assert len(skip.train) + len(skip.test) == 39
    assert skip.key != keep.key


def test_a_class_without_training_images(tmp_path, root):
    for path in (root / "cow").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no training image of class cow"):
        load_task(settings(tmp_path, bad_files="skip"))


@pytest.mark.parametrize(
    ("columns", "change", "says"),
    [
        (("path", "bias"), {}, "has no column target; its columns are path, bias"),
        (("path", "target", "split"), {"split": "exam"}, "split 'exam' is none of train, valid, test"),
        (("path", "target", "bias"), {"bias": "grass"}, "all images have the same bias"),
        (("path", "target"), {"target": "cow"}, "fewer than two classes"),
        (("path", "target"), {"path": "cow/photo 1.jpg"}, "fewer than two classes; 39 lines cannot be used"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, root, columns, change, says):
    labels(root, columns, lambda number, row: row | change)
    with pytest.raises(UserError, match=says):
        load_task(settings(tmp_path, labels="labels.csv"))


def test_a_misspelt_column(tmp_path, root):
    path = labels(root)
    path.write_text(path.read_text().replace("bias", "biass", 1))
    with pytest.raises(UserError, match="column 'biass' is not known; did you mean bias"):
        load_task(settings(tmp_path, labels="labels.csv"))


@pytest.mark.parametrize("column", ["bais", "biass", "Bais", "splitt"])
def test_a_column_that_is_nearly_a_missing_one_is_taken_for_it(tmp_path, root, column):
    known = "split" if column == "splitt" else "bias"
    columns = ("path", "target", "bias" if known == "split" else "split", known)
    path = labels(root, columns, lambda number, row: row | {"split": "test" if number % 4 == 3 else "train"})
    path.write_text(path.read_text().replace(known, column, 1))
    with pytest.raises(UserError, match=f"column '{column.lower()}' is not known; did you mean {known}"):
        load_task(settings(tmp_path, labels="labels.csv"))


@pytest.mark.parametrize("columns", [("path", "target", "bias", "split"), ("path", "target")])
@pytest.mark.parametrize(
    "further", ["patches", "patient", "site", "date", "image_path", "target_name", "paths", "subset"]
)
def test_further_columns_are_ignored(tmp_path, root, columns, further):
    def change(number, row):
        return row | {"split": "test" if number % 4 == 3 else "train", further: f"{number}"}

    labels(root, (*columns, further), change)
    assert load_task(settings(tmp_path, labels="labels.csv")).target_names == ("camel", "cow")


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("②", "①"), ("①", "②")),
        (("²", "10", "9"), ("9", "10", "²")),
        (("b", "٣", "2"), ("2", "٣", "b")),
        (("9" * 5000, "a", "1"), ("1", "9" * 5000, "a")),
        (("01", "1"), ("01", "1")),
    ],
)
def test_names_that_look_like_digits_have_an_order(names, order):
    assert sorted_names(set(names)) == order


def test_nothing_there(tmp_path, monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    with pytest.raises(UserError, match="own_images needs data_dir=FOLDER"):
        load_task(settings(tmp_path, data_dir=None))
    with pytest.raises(UserError, match="no such folder"):
        load_task(settings(tmp_path))
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=r"images of fewer than two classes \(none\); expected a folder for each class"):
        load_task(settings(tmp_path))
    with pytest.raises(UserError, match="labels=none.csv: there is no such file"):
        load_task(settings(tmp_path, labels="none.csv"))
    (tmp_path / "in" / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        load_task(settings(tmp_path, labels="labels.csv"))


def test_a_pickle_in_the_place_of_a_table_is_not_executed(tmp_path, root):
    np.save(root / "labels.npy", np.array([{}], dtype=object), allow_pickle=True)
    (root / "labels.npy").rename(root / "labels.csv")
    with pytest.raises(UserError, match="labels"):
        load_task(settings(tmp_path, labels="labels.csv"))
