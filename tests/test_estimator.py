"""`Study` from Python: fits on a folder, on arrays and on paths, what it finds, and that it predicts as the program."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import debias
from debias import Study, UserError, main
from debias.diagnosis import look
from tests.commands.test_study import SIDE, photographs, small_weights

ROOT = Path(__file__).resolve().parent.parent
SHORT = {"moved.epochs": 4, "bias_balanced.epochs": 4, "mine_gce.epochs": 20, "pretrain.epochs": 4}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    photographs(folder / "photos", True)
    small_weights(folder / "small.safetensors")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _few_pairs():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(look, "PAIRS", 100)
        patched.setattr(look, "_LEAST_STEPS", 150)
        yield


def study_in(home: Path, **changed) -> Study:
    features = {"features": f"resnet20@{home / 'small.safetensors'}", "image_size": SIDE}
    given = {
        "store": home / "runs", "cache_dir": home / "cache", "device": "cpu", "threads": 1, "verbose": False,
        "settings": features | SHORT,
    }  # fmt: skip
    return Study(**(given | changed))


@pytest.fixture(scope="module")
def fitted(home: Path) -> Study:
    return study_in(home).fit(home / "photos")


@pytest.fixture(scope="module")
def files(home: Path) -> list[Path]:
    return sorted((home / "photos").glob("*/*.png"))


@pytest.fixture(scope="module")
def pixels(files: list[Path]) -> np.ndarray:
    return np.stack([np.asarray(Image.open(file)) for file in files])


@pytest.mark.recipe
def test_a_folder_is_studied_and_the_border_named(fitted: Study, home: Path) -> None:
    found = fitted.diagnose()
    assert found.found is True and found.kind == "named" and found.properties[0].startswith("border")
    assert "border" in found.headline and found.operators["border"]["transferred"][0] > 0.6
    assert found.telling["border colour"]["accuracy"] > 0.8
    assert fitted.chosen_ in fitted.held_out_ and set(fitted.held_out_) > {"erm"}
    assert fitted.run_.parent == home / "runs" and "border" in fitted.page_.read_text(encoding="utf-8")


@pytest.mark.recipe
def test_it_predicts_what_the_program_predicts(fitted: Study, home: Path, files: list[Path], capfd) -> None:
    words = [f"checkpoint={fitted.run_ / 'weights.safetensors'}", f"folder={home / 'photos'}", f"output={home / 'out'}"]
    machine = ["device=cpu", "threads=1", "progress=False", f"cache_dir={home / 'cache'}", f"store={home / 'other'}"]
    assert main.main(["predict", "with", "own_images", *words, *machine]) == 0
    with (home / "out" / "predictions.csv").open(encoding="utf-8") as handle:
        rows = {row["path"]: row for row in csv.DictReader(handle)}
    said = [rows[str(file.relative_to(home / "photos"))] for file in files]
    assert list(fitted.predict(files)) == [row["class"] for row in said]
    right = [float(row[name]) for row in said for name in ("left", "right")]
    assert np.allclose(fitted.predict_proba(files).ravel(), right, atol=1e-5)


@pytest.mark.recipe
def test_arrays_are_predicted_as_files_are(fitted: Study, files: list[Path], pixels: np.ndarray) -> None:
    of_files = fitted.predict_proba(files)
    assert np.array_equal(fitted.predict_proba(pixels), of_files)
    assert np.array_equal(fitted.predict_proba((pixels / 255).astype(np.float32)), of_files)
    assert of_files.shape == (len(files), 2) and np.allclose(of_files.sum(axis=1), 1, atol=1e-6)
    assert fitted.predict_proba(files[:0]).shape == (0, 2)
    large = np.stack([np.asarray(Image.open(file).resize((50, 40))) for file in files[:3]])
    assert fitted.predict(large).shape == (3,)


@pytest.mark.recipe
def test_arrays_are_fitted_with_labels_of_any_kind(home: Path, fitted: Study, files, pixels) -> None:
    labels = np.array([7 if file.parent.name == "left" else -1 for file in files])
    study = study_in(home).fit(pixels, labels)
    assert set(study.classes_) == {7, -1} and study.classes_.dtype.kind == "i"
    assert study.diagnose().properties == fitted.diagnose().properties
    assert study.score(pixels, labels) > 0.9
    first = study.suspects()[0]
    assert first["suspect"] is True and labels[first["index"]] == first["target"]
    stored = np.asarray(Image.open(first["path"]))
    assert np.array_equal(stored, pixels[first["index"]])
    # The images that go against the border are the first four of each class.
    against = [files[row["index"]].stem for row in study.suspects("conflicting")]
    assert set(against[:5]) <= {"000", "001", "002", "003"}, against


@pytest.mark.recipe
def test_paths_are_fitted_silently_and_a_second_fit_trains_nothing_again(home: Path, files: list[Path], capfd) -> None:
    labels = [file.parent.name for file in files]
    study = study_in(home).fit(files, labels)
    stages = sorted((home / "runs" / "stages").iterdir())
    again = study_in(home).fit([str(file) for file in files], labels)
    assert sorted((home / "runs" / "stages").iterdir()) == stages and again.run_ != study.run_
    assert np.array_equal(again.predict_proba(files), study.predict_proba(files))
    row = study.suspects()[0]
    assert files[row["index"]] == Path(row["path"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.recipe
def test_it_is_read_back_from_its_run(fitted: Study, home: Path, files: list[Path]) -> None:
    again = Study.from_run(fitted.run_, cache_dir=home / "cache", device="cpu", threads=1)
    assert again.diagnose() == fitted.diagnose() and again.suspects() == fitted.suspects()
    assert np.array_equal(again.predict_proba(files[:20]), fitted.predict_proba(files[:20]))


def test_parameters_are_those_of_an_estimator() -> None:
    study = Study(seed=3, settings={"image_size": 64})
    assert clone(study).get_params() == study.get_params()
    assert study.set_params(seed=4).seed == 4 and set(debias.__all__) == {"Finding", "Study", "UserError"}


@pytest.mark.parametrize("ask", [lambda s: s.diagnose(), lambda s: s.suspects(), lambda s: s.predict(["a.png"])])
def test_a_study_that_was_not_fitted_says_so(ask) -> None:
    with pytest.raises(NotFittedError, match="call fit"):
        ask(Study())


IMAGES = np.zeros((4, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("X", "y", "said"),
    [
        (IMAGES, None, "y is missing"),
        (IMAGES, [0, 1, 0], r"y is of shape \(3,\), and there are 4 images"),
        (IMAGES[0, 0], [0], r"wanted as \[N, H, W\] or \[N, H, W, 3\], not \[8, 3\]"),
        (IMAGES.astype(np.int64), [0, 1, 0, 1], "uint8, or as floats in"),
        (IMAGES + 2.0, [0, 1, 0, 1], "uint8, or as floats in"),
        (IMAGES / np.nan, [0, 1, 0, 1], "uint8, or as floats in"),
        (IMAGES, ["a", " a", "b", "b"], "has no text of its own"),
        (IMAGES, ["", "", "b", "b"], "has no text of its own"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_arrays_and_labels_that_do_not_fit(tmp_path: Path, X, y, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Study(cache_dir=tmp_path / "cache").fit(X, y)
    assert not (tmp_path / "cache").exists()


def test_what_the_command_refuses_is_refused(tmp_path: Path, home: Path, fitted: Study) -> None:
    study = study_in(home, store=tmp_path / "runs", cache_dir=tmp_path / "cache")
    with pytest.raises(UserError, match="fewer than two classes"):
        study.fit(IMAGES, [1, 1, 1, 1])
    with pytest.raises(UserError, match="no setting is called 'image_sise'"):
        study.set_params(settings={"image_sise": 3}).fit(home / "photos")
    with pytest.raises(UserError, match="not the folder of a finished study"):
        Study.from_run(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"none")
    with pytest.raises(UserError, match="broken.png: not an image"):
        fitted.predict([tmp_path / "broken.png"])
    with pytest.raises(UserError, match="gone.png: cannot be read"):
        fitted.predict([tmp_path / "gone.png"])
    with pytest.raises(ValueError, match="not one path"):
        fitted.predict(tmp_path)


@pytest.mark.recipe
@pytest.mark.parametrize("number", range(3))
def test_the_documented_lines_run_and_say_how_far_they_are(home, fitted, number: int, monkeypatch, tmp_path, capfd):
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("docs/python.md", "README.md"))
    blocks = [block for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if "import Study" in block]
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(home / "photos")
    (tmp_path / "new").symlink_to(home / "photos" / "left")
    given = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in study_in(home, verbose=True).get_params().items()
    }
    lines = blocks[number].replace("Study()", f"Study(**{given!r})")
    assert lines != blocks[number]
    exec(compile(lines, "docs/python.md", "exec"), {})
    said = capfd.readouterr()
    assert "There is a shortcut: border" in said.out and "run folder" in said.err
