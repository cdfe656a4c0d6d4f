"""The section of a card that says how an exported model is used: what an image has to be, in words and in code."""

from collections.abc import Mapping
from typing import Any

from debias.models.export import DESCRIPTION, ONNX, PROGRAM, WEIGHTS, load_model
from debias.tracking.report.blocks import Block, Code, Paragraph


def use(description: Mapping[str, Any]) -> list[Block]:
    """How images are prepared, and how each of the files that were written is used."""
    blocks: list[Block] = [Paragraph(f"{preparation(description)}."), Code(code(description), "python")]
    files = description.get("files", {})
    blocks.append(
        Paragraph(
            f"Every file gives logits [images, classes], in the order of classes in {DESCRIPTION}; softmax makes "
            "probabilities of them."
        )
    )
    if ONNX in files:
        blocks += [
            Paragraph("ONNX, with batches of any size; it normalises them itself.", bold=f"{ONNX}."),
            Code(
                "import onnxruntime\n\n"
                f'logits = onnxruntime.InferenceSession("{ONNX}").run(["logits"], {{"images": images}})[0]',
                "python",
            ),
        ]
    if PROGRAM in files:
        blocks += [
            Paragraph(
                "A program of torch.export, with batches of any size; it normalises them itself, and needs torch "
                "and nothing of this program.",
                bold=f"{PROGRAM}.",
            ),
            Code(
                f'import torch\n\nlogits = torch.export.load("{PROGRAM}").module()(torch.from_numpy(images))', "python"
            ),
        ]
    if WEIGHTS in files:
        blocks += [
            Paragraph(
                "The tensors of the bare network, which does not normalise; this program builds the network from "
                f"{DESCRIPTION} and puts normalisation in front of it. {DESCRIPTION} says under tensors which module "
                f"each tensor belongs to.{_normalise(description)}",
                bold=f"{WEIGHTS}.",
            ),
            Code(
                f"import torch\nfrom pathlib import Path\nfrom {load_model.__module__} import load_model\n\n"
                'logits = load_model(Path("."))(torch.from_numpy(images))',
                "python",
            ),
        ]
    return blocks


def _normalise(description: Mapping[str, Any]) -> str:
    about = description["normalise"]
    if "features" in description:
        return (
            f" Elsewhere, give the pretrained network images normalised by the numbers that {DESCRIPTION} has under "
            "features, and the network its features normalised by those under normalise."
        )
    if about is None:
        return " Elsewhere, give it images in [0, 1] as they are."
    mean, std = (", ".join(f"{value:g}" for value in about[name]) for name in ("mean", "std"))
    return f" Elsewhere, give it (image - mean) / std with mean {mean} and std {std}."


def preparation(description: Mapping[str, Any]) -> str:
    """How an image file becomes what a model takes, in words."""
    about, size = description["preparation"], description["input"]["size"]
    framing, margin = about.get("framing", "crop"), about.get("margin", 1.0)
    square = {
        "crop": "take the middle square"
        + (f", of the shorter side divided by {margin:g}," if margin != 1 else "")
        + f" and resize it to {size} x {size} pixels",
        "stretch": f"resize it to {size} x {size} pixels, whatever its shape",
        "pad": f"resize it so that its longer side is {size} pixels, and put it into the middle of a black square",
    }[framing]
    return (
        f"An image is turned upright by its EXIF orientation and made RGB, transparent pixels on white. Then {square} "
        "(bilinear, with antialiasing, as Pillow does), and scale it from 0 to 255 to float32 in [0, 1], channels first"
    )


def code(description: Mapping[str, Any]) -> str:
    """The same as lines of Python with Pillow and numpy, which make `images` of photo.jpg."""
    about, size = description["preparation"], description["input"]["size"]
    framing, margin = about.get("framing", "crop"), about.get("margin", 1.0)
    mode = "RGB" if description["input"]["channels"] == 3 else "L"
    lines = [
        "import numpy as np",
        "from PIL import Image, ImageOps",
        "",
        f'image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("{mode}")',
    ]
    if framing == "crop":
        lines += [
            "side = min(image.size)" + (f" / {margin!r}" if margin != 1 else ""),
            "left, top = (image.width - side) / 2, (image.height - side) / 2",
            "box = (left, top, left + side, top + side)",
            f"image = image.resize(({size}, {size}), Image.Resampling.BILINEAR, box=box)",
        ]
    elif framing == "stretch":
        lines.append(f"image = image.resize(({size}, {size}), Image.Resampling.BILINEAR)")
    else:
        lines += [
            f"shrink = {size} / max(image.size)",
            "inner = [max(1, round(side * shrink)) for side in image.size]",
            f'square = Image.new("{mode}", ({size}, {size}))',
            "place = [(side - own) // 2 for side, own in zip(square.size, inner)]",
            "square.paste(image.resize(inner, Image.Resampling.BILINEAR), place)",
            "image = square",
        ]
    layers = "np.asarray(image, dtype=np.float32)" + (".transpose(2, 0, 1)[None]" if mode == "RGB" else "[None, None]")
    return "\n".join([*lines, f"images = {layers} / 255"])
