"""Pictures that are the same but for their bytes are found between test and training images; others are not."""

import io

import numpy as np
import pytest
from PIL import Image

from debias.data.loading import load_task
from debias.data.photos.similar import look_of, pairs_alike
from tests.data.photos.test_layouts import settings


def saved_anew(image, **options):
    out = io.BytesIO()
    image.save(out, **options)
    return Image.open(io.BytesIO(out.getvalue())).convert("RGB")


def prepared(*images):
    return np.stack([np.asarray(image.resize((32, 32))).transpose(2, 0, 1) for image in images])


def some(number):
    pixels = np.random.default_rng(number).integers(0, 255, (9, 9, 3)).astype(np.uint8)
    return Image.fromarray(pixels).resize((90, 90), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: saved_anew(image, format="JPEG", quality=60),
        lambda image: image.resize((60, 60)),
        lambda image: saved_anew(image.resize((200, 200)), format="WEBP"),
        lambda image: Image.eval(image, lambda value: min(255, value + 3)),
    ],
)
def test_the_same_picture_is_found(change):
    train = [some(number) for number in range(20)]
    looks = look_of([prepared(change(train[3]), some(99))]), look_of([prepared(*train[:10]), prepared(*train[10:])])
    assert pairs_alike(*looks) == [(0, 3)]


def test_pictures_without_structure_are_like_nothing():
    flat = [Image.new("RGB", (40, 40), (number, number, number)) for number in (0, 1, 200)]
    assert pairs_alike(look_of([prepared(*flat)]), look_of([prepared(*flat)])) == []
    assert pairs_alike(look_of([]), look_of([prepared(*flat)])) == []


def test_a_data_set_says_which(tmp_path):
    for part in ("train", "test"):
        for number, name in enumerate(("cow", "camel")):
            for i in range(6):
                (tmp_path / "in" / part / name).mkdir(parents=True, exist_ok=True)
                some(1000 * (part == "test") + 100 * number + i).save(tmp_path / "in" / part / name / f"{i}.png")
    first = tmp_path / "in" / "train" / "cow" / "2.png"
    Image.open(first).save(tmp_path / "in" / "test" / "cow" / "again.jpg", quality=70)
    task = load_task(settings(tmp_path, "own_images", similar=True, image_size=32))
    said = "\n".join(task.notes)
    assert "1 test images look like training images" in said and "again.jpg like" in said and str(first) in said
    assert not any("look like" in note for note in load_task(settings(tmp_path, "own_images", image_size=32)).notes)
