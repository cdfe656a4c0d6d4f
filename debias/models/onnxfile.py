"""An exported program as ONNX, and what runs it. Both need the packages of the extra `onnx`, which a run does not."""

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from debias.errors import UserError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INPUT, OUTPUT, BATCH = "images", "logits", "batch"


class Unsupported(Exception):
    """A program that torch's exporter cannot write as ONNX; the message says why."""


def missing(packages: Sequence[str] = PACKAGES) -> list[str]:
    """Those of the packages that are not installed."""
    return [name for name in packages if importlib.util.find_spec(name) is None]


def write_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write a program of images [batch, C, S, S] as one ONNX file, with any number of images a batch.

    Raises
    ------
    Unsupported
        The exporter does not know one of its operations.
    OSError
        The file cannot be written.
    """
    try:
        with _quiet(), without_traces():
            made = torch.onnx.export(
                program, (), dynamo=True, input_names=[INPUT], output_names=[OUTPUT], verbose=False
            )  # fmt: skip
        assert made is not None
        model = made.model_proto
        batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
        _bare(model, lambda name: BATCH if name == batch else name)
        content = model.SerializeToString()
    except Exception as error:  # what torch's exporter raises has no common type
        raise Unsupported(_reason(error)) from error
    path.write_bytes(content)


def run_onnx(path: Path, images: Tensor) -> Tensor:
    """Logits [B, classes] of images [B, C, S, S] by an ONNX file, on one thread of the CPU.

    Raises
    ------
    UserError
        A file that the runtime does not take.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        (logits,) = session.run([OUTPUT], {INPUT: np.ascontiguousarray(images.numpy())})
    except Exception as error:  # what the runtime raises has no common type
        raise UserError(f"{path}: ONNX Runtime does not run it ({_reason(error)})") from error
    return torch.from_numpy(logits)


def _bare(message: Any, renamed: Callable[[str], str]) -> None:
    """Take out of a protocol buffer what names files of this machine, and give dimensions their names."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.name == "dim_param":
            message.dim_param = renamed(value)
        elif field.message_type is not None:
            for one in [value] if hasattr(value, "ListFields") else value:
                _bare(one, renamed)


@contextlib.contextmanager
def without_traces() -> Iterator[None]:
    """While tracing, torch does not look up which lines of code each operation comes from: up to half of the time."""
    config, name = torch.fx.config, "do_not_emit_stack_traces"
    before = getattr(config, name, None)
    if before is not None:  # older versions of torch do not have it
        setattr(config, name, True)
    try:
        yield
    finally:
        if before is not None:
            setattr(config, name, before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells its developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """The first line of what went wrong at the bottom of a chain of errors, without colours."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
