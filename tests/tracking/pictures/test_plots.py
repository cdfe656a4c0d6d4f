import re
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from debias.metrics import GroupMatrix
from debias.tracking.pictures import plots
from debias.tracking.pictures.matrices import plot_confusion, plot_matrix
from debias.tracking.pictures.plots import plot_curves, plot_images

HOSTILE = ["$x_1", "_hidden", "a\nb", "$\\frac{", "\\alpha^_%&#", "数字 \ud800\x00", "", "w" * 400, "long words " * 60]
BLUE, ORANGE, HATCH = (0, 114, 178), (213, 94, 0), (170, 170, 170)


def pixels(path: Path) -> np.ndarray:
    """uint8 [H, W, 3] of a PNG no larger than a canvas."""
    assert path.read_bytes().startswith(b"\x89PNG")
    image = np.round(imread(path)[..., :3] * 255).astype(np.uint8)
    assert 100 < image.shape[0] < 3000
    assert 850 < image.shape[1] < 1500
    assert 0 < (image < 200).any(-1).mean() < 0.9
    return image


def count(image: np.ndarray, colour) -> int:
    return int((image == np.array(colour)).all(-1).sum())


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def assert_tidy(figure: Figure) -> None:
    """No text leaves the canvas, and no two level texts overlap."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    shown = [text for text in figure.texts if text.get_text()]
    for axes in figure.axes:
        shown.append(axes.xaxis.label)
        for axis in (axes.xaxis, axes.yaxis):
            low, high = axis.get_view_interval()
            ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
            shown += [label for tick, label in ticks if low <= tick <= high]
    boxes = {text: text.get_window_extent(renderer) for text in shown}
    for text, box in boxes.items():
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1
        assert inside, text.get_text()
    level = [text for text in shown if text.get_rotation() != 45]
    for one, other in combinations(level, 2):
        a, b = boxes[one], boxes[other]
        apart = a.x1 <= b.x0 or b.x1 <= a.x0 or min(a.y1, b.y1) - max(a.y0, b.y0) <= 0.2 * min(a.height, b.height)
        assert apart, (one.get_text(), other.get_text())


def matrix(n_targets: int, n_biases: int, empty: tuple[int, int] | None = None) -> GroupMatrix:
    hits = np.arange(n_targets * n_biases).reshape(n_targets, n_biases)
    counts = np.full_like(hits, n_targets * n_biases - 1)
    if empty:
        hits[empty] = counts[empty] = 0
    return GroupMatrix(hits, counts)


def draw(m: GroupMatrix, path: Path, word: str = "", **more: Any) -> Path:
    n_targets, n_biases = m.counts.shape
    return plot_matrix(
        m,
        **{"target_names": names(n_targets, word), "bias_names": names(n_biases, word), "title": "T", **more},
        path=path,
    )


def names(n: int, word: str = "") -> list[str]:
    return [f"{word}{index}" for index in range(n)]


def test_lines_are_named_at_their_ends(tmp_path, canvases):
    series = {"ERM": [(1, 10.0), (2, 40.0)], "LfF": [(1, 12.0), (2, 80.0)]}
    path = tmp_path / "new" / "a.png"
    assert plot_curves(series, title="T", ylabel="accuracy", path=path, reference={"paper": 84.0}) == path
    image = pixels(path)
    assert min(count(image, BLUE), count(image, ORANGE)) > 300
    placed = {text.get_text(): text.get_position() for text in canvases[0].texts}
    assert len({placed[name][0] for name in ("ERM", "LfF", "paper")}) == 1
    assert placed["ERM"][1] < placed["LfF"][1] < placed["paper"][1]
    assert_tidy(canvases[0])


@pytest.mark.parametrize(
    "ends", [[(9, 50.0)] * 4, [(9, 10.0), (5, 90.0)], [(9, 10.0), (9, float("nan"))]], ids=["close", "early", "nan"]
)
def test_a_legend_where_ends_cannot_be_named(tmp_path, canvases, ends):
    series = {f"method {index}": [(1, 5.0), end] for index, end in enumerate(ends)}
    pixels(plot_curves(series, title="T", ylabel="y", path=tmp_path / "a.png"))
    x_of_names = [text.get_position()[0] for text in canvases[0].texts if text.get_text().startswith("method")]
    assert len(x_of_names) == len(ends)
    assert min(x_of_names) < 1.0
    assert_tidy(canvases[0])


def test_many_lines_fit_the_canvas(tmp_path, canvases):
    series = {f"method number {index}": [(1, float(index)), (2, 50.0 + index / 9)] for index in range(23)}
    pixels(plot_curves(series, title="title " * 40, ylabel="y", path=tmp_path / "a.png", reference={"paper": 50.0}))
    assert_tidy(canvases[0])


def test_a_single_point_is_seen(tmp_path):
    image = pixels(plot_curves({"a": [(3, 7.0)]}, title="T", ylabel="y", path=tmp_path / "a.png"))
    bare = pixels(plot_curves({"a": [(3, float("nan"))]}, title="T", ylabel="y", path=tmp_path / "b.png"))
    inside = (slice(100, 480), slice(100, 700))
    assert count(image[inside], BLUE) > 30
    assert count(bare[inside], BLUE) == 0


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [(1, float("nan")), (2, float("inf"))]}])
def test_no_points_says_so(tmp_path, canvases, series):
    pixels(plot_curves(series, title="T", ylabel="y", path=tmp_path / "a.png", reference={"r": float("nan")}))
    assert "no points" in texts(canvases[0])


def test_points_are_joined_in_order_of_epoch(tmp_path, canvases):
    plot_curves({"a": [(3, 1.0), (1, 2.0), (2, 3.0)]}, title="T", ylabel="y", path=tmp_path / "a.png")
    assert canvases[0].axes[0].get_lines()[0].get_xydata().tolist() == [[1, 2], [2, 3], [3, 1]]


@pytest.mark.parametrize(("n_targets", "n_biases"), [(2, 2), (10, 10), (10, 1), (3, 5)])
@pytest.mark.parametrize("word", ["", "a rather long name "])
def test_every_cell_is_numbered_and_nothing_overlaps(tmp_path, canvases, n_targets, n_biases, word):
    m = matrix(n_targets, n_biases)
    image = pixels(draw(m, tmp_path / "a.png", word))
    assert {f"{value:.1f}" for value in m.accuracy.flat if value < 100} | {"100"} <= set(texts(canvases[0]))
    assert (count(image, ORANGE) > 0) == (n_biases > 1)
    assert_tidy(canvases[0])


def test_the_figures_stand_under_the_title(tmp_path, canvases):
    m = GroupMatrix(np.array([[9, 1], [0, 3]]), np.array([[10, 4], [0, 4]]))
    draw(m, tmp_path / "a.png")
    figures = "unbiased 63.3 · average 72.2 · aligned 82.5 · conflicting 25.0 · worst 25.0"
    assert texts(canvases[0])[:2] == ["T", figures]
    off = GroupMatrix(np.array([[0, 1], [3, 0]]), np.array([[0, 4], [4, 0]]))
    draw(off, tmp_path / "b.png")
    assert "aligned - ·" in texts(canvases[1])[1]


def test_an_empty_cell_is_hatched(tmp_path, canvases):
    full = pixels(draw(matrix(2, 2), tmp_path / "a.png"))
    holed = pixels(draw(matrix(2, 2, empty=(0, 1)), tmp_path / "b.png"))
    assert texts(canvases[0]).count("-") == 0
    assert texts(canvases[1]).count("-") == 1
    # Inside the cell, away from its edge: the upper right one of a canvas 900 wide.
    cell = (slice(115, 165), slice(560, 680))
    assert count(full[cell], HATCH) == 0
    assert count(holed[cell], HATCH) > 100


def test_numbers_can_be_read_on_their_cells(tmp_path, canvases):
    draw(matrix(2, 2), tmp_path / "a.png")
    colours = {text.get_text(): text.get_color() for text in canvases[0].texts}
    assert (colours["0.0"], colours["100"]) == ("black", "white")


def test_swatches_show_the_bias_colours(tmp_path, canvases):
    colours = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    image = pixels(draw(matrix(2, 2), tmp_path / "a.png", bias_colours=colours))
    first, second = (np.nonzero((image == np.uint8(255 * colour)).all(-1))[1] for colour in colours)
    assert len(first) > 500 and len(second) > 500
    assert first.max() < second.min()
    swatch_bottom = len(image) - np.nonzero((image == (255, 0, 255)).all(-1))[0].max()
    renderer = FigureCanvasAgg(canvases[0]).get_renderer()
    label = max((t for t in canvases[0].texts if t.get_text() == "0"), key=lambda text: text.get_position()[0])
    assert label.get_window_extent(renderer).y1 < swatch_bottom


def test_names_and_colours_must_fit_the_matrix(tmp_path):
    with pytest.raises(ValueError, match="2 x 3"):
        draw(matrix(2, 3), tmp_path / "a.png", bias_names=names(2))
    with pytest.raises(ValueError, match="bias_colours"):
        draw(matrix(2, 2), tmp_path / "a.png", bias_colours=np.zeros((3, 3)))


def test_confusion_is_shares_of_a_row_with_the_classes_colours_along_both_axes(tmp_path, canvases):
    counts = np.array([[6, 2, 0], [0, 0, 0], [1, 0, 3]])
    colours = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    path = plot_confusion(
        counts, class_names=["cat", "dog", "owl"], class_colours=colours, title="T", path=tmp_path / "a.png"
    )
    written = texts(canvases[0])
    assert [text for text in written if re.fullmatch(r"[\d.]+|-", text)] == [
        "75.0", "25.0", "0.0", "-", "-", "-", "25.0", "0.0", "75.0",
    ]  # fmt: skip
    assert "75.0 % of the images are predicted right" in written
    assert written.count("cat") == written.count("owl") == 2 and {"target", "prediction"} <= set(written)
    image = pixels(path)
    spots = [np.argwhere((image == colour).all(-1)) for colour in (255 * colours).astype(int)]
    # A column of swatches beside the rows from above to below, a row of swatches below from left to right.
    assert all(len(spot) > 200 for spot in spots)
    assert spots[0][:, 0].min() < spots[1][:, 0].min() < spots[2][:, 0].min()
    assert spots[0][:, 1].max() < spots[1][:, 1].max() < spots[2][:, 1].max()
    assert len({int(spot[:, 1].min()) for spot in spots}) == len({int(spot[:, 0].max()) for spot in spots}) == 1
    assert_tidy(canvases[0])
    plain = plot_confusion(counts, class_names=["cat", "dog", "owl"], title="T", path=tmp_path / "b.png")
    assert count(pixels(plain), (255, 0, 0)) == 0
    with pytest.raises(ValueError, match="target_colours must be"):
        plot_confusion(counts, class_names=names(3), class_colours=colours[:2], title="T", path=tmp_path / "c.png")


def test_images_are_enlarged_pixel_by_pixel(tmp_path):
    image = torch.zeros(1, 3, 28, 28, dtype=torch.uint8)
    image[0, 0, 0, :14], image[0, 2, 0, 14:], image[0, 1, 1:] = 255, 255, 255
    sheet = pixels(plot_images(image, title="T", path=tmp_path / "a.png"))
    factor = 6
    assert count(sheet, (255, 0, 0)) == count(sheet, (0, 0, 255)) == 14 * factor**2
    assert count(sheet, (0, 255, 0)) == 27 * 28 * factor**2
    red, green = (np.argwhere((sheet == colour).all(-1)) for colour in ([255, 0, 0], [0, 255, 0]))
    assert red[:, 0].max() < green[:, 0].min()


def test_grey_and_large_images(tmp_path):
    grey = torch.full((12, 1, 28, 28), 77, dtype=torch.uint8)
    assert count(pixels(plot_images(grey, title="T", path=tmp_path / "a.png")), (77, 77, 77)) == 12 * 84**2
    wide = torch.full((20, 3, 100, 200), 77, dtype=torch.uint8)
    area = count(pixels(plot_images(wide, title="T", path=tmp_path / "b.png", columns=5)), (77, 77, 77)) / 20
    assert 100 * 50 < area < 200 * 100


def test_captions_stand_under_their_images(tmp_path, canvases):
    images = torch.full((13, 1, 28, 28), 77, dtype=torch.uint8)
    captions = [f"{index}\nbias" for index in range(12)] + ["a caption that is much too long"]
    pixels(plot_images(images, captions, title="T", path=tmp_path / "a.png"))
    assert_tidy(canvases[0])
    placed = {text.get_text(): text.get_position() for text in canvases[0].texts}
    assert placed["0"][1] == placed["9"][1] > placed["10"][1]
    assert placed["0"][0] == placed["10"][0] < placed["1"][0]
    assert texts(canvases[0])[-1].endswith("…")


def test_no_images_and_too_many_say_so(tmp_path, canvases):
    pixels(plot_images(torch.empty(0, 3, 28, 28, dtype=torch.uint8), [], title="T", path=tmp_path / "a.png"))
    assert texts(canvases[0]) == ["T", "no images"]
    many = torch.zeros(plots.MAX_IMAGES + 1, 1, 4, 4, dtype=torch.uint8)
    plot_images(many, title="T", path=tmp_path / "b.png", columns=40)
    assert texts(canvases[1]) == ["T", "the first 600 of 601 images"]
    assert len(canvases[1].images) == 600


@pytest.mark.parametrize("shape", [(2, 28, 28), (2, 2, 28, 28)])
def test_images_of_another_shape_are_refused(tmp_path, shape):
    with pytest.raises(ValueError, match="uint8"):
        plot_images(torch.zeros(shape, dtype=torch.uint8), title="T", path=tmp_path / "a.png")
    with pytest.raises(ValueError, match="1 captions for 2"):
        plot_images(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), ["a"], title="T", path=tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("text", HOSTILE)
def test_names_are_drawn_as_they_are_written(tmp_path, canvases, text):
    other = {"fine": [(1, 30.0), (2, 60.0)]}
    plot_curves({text: [(1, 1.0), (2, 5.0)], **other}, title=text, ylabel=text, path=tmp_path / "a.png")
    plot_curves({text: [(1, 1.0)], **other}, title=text, ylabel=text, path=tmp_path / "b.png", reference={text: 2})
    draw(matrix(2, 2), tmp_path / "c.png", target_names=[text, "a"], bias_names=[text, "b"], title=text)
    plot_images(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), [text, "a"], title=text, path=tmp_path / "d.png")
    for figure, name in zip(canvases, "abcd", strict=True):
        pixels(tmp_path / f"{name}.png")
        assert_tidy(figure)
        assert not any(part.get_parse_math() for part in figure.texts)
        if text in ("$x_1", "_hidden", "$\\frac{"):
            assert text in texts(figure)


def test_settings_are_left_as_they_were_and_files_repeat(tmp_path):
    before = dict(mpl.rcParams)
    files = [plot_curves({"a": [(1, 2.0)]}, title="T", ylabel="y", path=tmp_path / name) for name in ("a", "b")]
    assert dict(mpl.rcParams) == before
    assert files[0].read_bytes() == files[1].read_bytes()
