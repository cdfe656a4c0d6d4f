"""An exported model as another program uses it: images decoded as its description says, and every form of it run."""

from pathlib import Path

import torch
from torch import Tensor

from debias.data.photos.archives import open_files
from debias.data.photos.decode import fill
from debias.data.preparation import Preparation
from debias.models.export import load_model
from debias.models.onnxfile import run_onnx


def probabilities(folder: Path, exported: Path, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of the images of a folder, [N, classes]: by `model.safetensors`, by `model.pt2` and by `model.onnx`."""
    model, files = load_model(exported), open_files(folder)
    images = torch.zeros(len(files.names), 3, side, side, dtype=torch.uint8)
    fill(files, files.names, Preparation(**model.description["preparation"]), images.numpy())
    with torch.no_grad():
        logits = model(images / 255), torch.export.load(exported / "model.pt2").module()(images / 255)
    by_onnx = run_onnx(exported / "model.onnx", images / 255)
    return torch.softmax(logits[0], 1), torch.softmax(logits[1], 1), torch.softmax(by_onnx, 1)
