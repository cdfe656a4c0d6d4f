"""Simple properties of images and files, and how well each predicts the class of images that it was not fitted on."""

import torch
from PIL import Image

from debias.data.properties.descriptors import image_properties
from debias.data.properties.prediction import predicted
from debias.diagnosis.files import file_properties


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 100, (count, 3, 20, 20), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def best(x: torch.Tensor, target: torch.Tensor, classes: int = 2) -> dict[str, float]:
    return {one.name: one.accuracy.value for one in predicted(image_properties(x), target, classes, seed=1)}


def test_a_bright_class() -> None:
    x, target = images(300), torch.arange(300) % 2
    x[target == 1] += 60
    found = best(x, target)
    assert found["brightness"] > 0.95 and found["mean colour"] > 0.95
    assert abs(found["sharpness"] - 0.5) < 0.12 and abs(found["aspect of what is shown"] - 0.5) < 0.12


def test_noise_predicts_nothing_and_unequal_classes_gain_nothing() -> None:
    target = (torch.rand(400, generator=torch.Generator().manual_seed(1)) < 0.1).long()
    found = best(images(400), target)
    assert all(abs(value - 0.5) < 0.15 for value in found.values()), found


def test_border_size_and_shape() -> None:
    x = torch.full((200, 3, 24, 24), 30, dtype=torch.uint8)
    target = torch.arange(200) % 2
    for i in range(200):
        tall, wide = (14, 6) if target[i] else (6, 14)
        x[i, :, 12 - tall // 2 : 12 + tall // 2, 12 - wide // 2 : 12 + wide // 2] = 120 + i % 7
    assert best(x, target)["aspect of what is shown"] > 0.99
    x[target == 1, 0, :2] = 90
    x[target == 1, 0, -2:] = 90
    x[target == 1, 0, :, :2] = 90
    x[target == 1, 0, :, -2:] = 90
    assert best(x, target)["border colour"] > 0.99


def test_grey_images_have_no_colour_to_ask_about() -> None:
    found = image_properties(images(4)[:, :1])
    assert "brightness" in found and "colourfulness" not in found and "mean colour" not in found


def test_files(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0110], exif[0x0132] = "Camera A", "2024:05:01 10:00:00"
    Image.new("RGB", (40, 20), "red").save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (20, 20), "red").save(tmp_path / "b.png")
    (tmp_path / "c.jpg").write_bytes(b"no image")
    paths = [str(tmp_path / name) for name in ("a.jpg", "b.png", "c.jpg", "gone.jpg")]
    found = file_properties(paths)
    assert found["format"] == ["JPEG", "PNG", "unknown", "unknown"]
    assert found["camera"] == ["Camera A", "unknown", "unknown", "unknown"]
    assert found["date"][0] == "2024:05:01" and found["aspect of the file"][0] == 2.0
    assert file_properties(paths[2:]) == {}
    # numbers with an unknown among them, and words
    target = torch.arange(60) % 2
    words = ["JPEG" if label else "PNG" for label in target.tolist()]
    sizes = [100.0 + 50 * label for label in target.tolist()]
    told = {one.name: one.accuracy.value for one in predicted({"format": words, "file size": sizes}, target, 2, 1)}
    assert told == {"format": 1.0, "file size": 1.0}


def test_images_that_were_fitted_on_are_not_predicted() -> None:
    """Noise of many numbers, fitted to few images, tells those images and no other."""
    generator = torch.Generator().manual_seed(3)
    noise, target = torch.randn(300, 75, generator=generator), torch.arange(300) % 2
    (found,) = predicted({"noise": noise}, target, 2, seed=1)
    assert abs(found.beyond) < 0.25 and found.numbers == 75


def test_numbers_that_are_unknown_are_apart_from_all_others() -> None:
    """Of one class half of the images tell nothing, and that alone is what tells them apart."""
    target = torch.arange(400) % 2
    values = [
        "unknown" if label and place % 4 == 1 else -5.0 - place % 3 for place, label in enumerate(target.tolist())
    ]
    (found,) = predicted({"size": values}, target, 2, seed=1)
    assert found.accuracy.value == 0.75


def test_the_same_seed_gives_the_same_folds() -> None:
    x, target = images(100), torch.arange(100) % 4
    assert predicted(image_properties(x), target, 4, 3) == predicted(image_properties(x), target, 4, 3)
