"""The published files of Colored MNIST with colour jitter: a pickled dictionary in an .npy, read without executing it.

A pickle may name any function to be called while it is read. Here three names are known, of an array, its type and an
encoded text, and what stands for them only checks and copies bytes; every other name ends the reading.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from debias.errors import UserError

FIELDS = ("train_image", "train_label", "test_image", "test_label", "test_gray")
# Not that NumPy unpickle it: that would run whatever the file says.
_ADVICE = "download it again, or ask for its arrays as a .npz file; dataset=jitter_mnist makes such images without it"
_TYPES = {"u1": np.uint8, "i1": np.int8, "i4": np.int32, "i8": np.int64}


def find_file(folder: Path, variance: float) -> Path:
    """The published file of a variance in a folder, or its converted .npz.

    Raises
    ------
    UserError
        Neither is there.
    """
    stem = f"mnist_10color_jitter_var_{variance:.03f}"
    for place in (folder, folder / "jitter_mnist"):
        for suffix in (".npz", ".npy"):
            if (place / f"{stem}{suffix}").is_file():
                return place / f"{stem}{suffix}"
    raise UserError(f"jitter_released: there is no {stem}.npy in {folder}; set data_dir to the folder it is in")


def read_released(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a published .npy, or of an .npz with the same names, checked.

    Returns {train,test}_image uint8 [N, 28, 28, 3], {train,test}_label int64 [N], test_gray uint8 [N, 28, 28].

    Raises
    ------
    UserError
        A file that cannot be read without executing it, or is not such a file.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                found: Any = {name: stored[name] for name in stored.files}
        else:
            found = _unpickled(path)
    except UserError:
        raise
    except Exception as error:  # what damaged files raise has no common type
        raise UserError(f"{path}: cannot be read ({type(error).__name__}: {error}); {_ADVICE}") from error
    if not isinstance(found, dict) or not set(FIELDS) <= set(found):
        raise UserError(f"{path}: not a dictionary of {', '.join(FIELDS)}")
    arrays = {name: np.asarray(found[name]) for name in FIELDS}
    for part in ("train", "test"):
        images, labels = arrays[f"{part}_image"], arrays[f"{part}_label"]
        if (
            labels.ndim != 1
            or images.dtype != np.uint8
            or images.shape != (len(labels), 28, 28, 3)
            or labels.dtype.kind not in "iu"
        ):
            raise UserError(f"{path}: {part} images are {images.dtype} {images.shape} with {labels.shape} labels")
        if len(labels) == 0 or labels.min() < 0 or labels.max() > 9:
            raise UserError(f"{path}: {part} labels are not digits")
        arrays[f"{part}_label"] = labels.astype(np.int64)
    if arrays["test_gray"].dtype != np.uint8 or arrays["test_gray"].shape != arrays["test_image"].shape[:3]:
        raise UserError(f"{path}: test_gray is {arrays['test_gray'].dtype} {arrays['test_gray'].shape}")
    return arrays


def _unpickled(path: Path) -> Any:
    with path.open("rb") as handle:
        version = np.lib.format.read_magic(handle)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(handle)
        if dtype.kind != "O" or shape != ():
            raise UserError(f"{path}: an array of {dtype} {shape}, not one dictionary")
        content = _plain(_Reader(handle, encoding="latin1").load())
        return content.item() if isinstance(content, np.ndarray) and content.shape == () else content


class _Type:
    """Stands for numpy.dtype: keeps the name of the type."""

    def __init__(self, name: str, *rest: Any) -> None:
        self.name, self.order = name, "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


class _Array:
    """Stands for an array while it is read: shape, type and bytes."""

    value: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        if kind.name.startswith("O"):
            self.value = content[0] if shape == () and len(content) == 1 else None
            return
        raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
        dtype = np.dtype(_TYPES[kind.name]).newbyteorder(kind.order if kind.order in "<>" else "=")
        self.value = np.frombuffer(raw, dtype=dtype).reshape(shape, order="F" if fortran else "C")


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        return _plain(value.value)
    if isinstance(value, dict):
        return {_plain(name): _plain(item) for name, item in value.items()}
    return value


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return lambda *arguments: _Array()
        if (module, name) == ("numpy", "ndarray"):
            return _Array
        if (module, name) == ("numpy", "dtype"):
            return _Type
        if (module, name) == ("_codecs", "encode"):
            return lambda text, encoding: text.encode("latin1")
        raise ValueError(f"the file asks for {module}.{name}, which is not part of an array")
