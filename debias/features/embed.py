"""Images through a pretrained network, on all cores, into a cache that outlives a killed process.

The cache is a folder for each network, its weights and preparation: safetensors files of some hundred rows, each named
by a digest of what it holds, and each row found by a digest of its image. So an image is embedded once, whatever set,
part or order it comes in; a process that was killed loses the rows of its last seconds; and what is damaged is noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm import tqdm

from debias.data.cache import key_of, note
from debias.data.mapped import MappedImages
from debias.errors import UserError
from debias.features.source import Source
from debias.models.embedders import Embedding
from debias.rawfiles import check_regular

# 1: float16 rows of single views, by the digest of the image.
VERSION = 1
VIEWS = ("as it is", "mirrored", "its middle", "its middle, mirrored")
# Side of the middle of an image, as a share of its own.
MIDDLE = 0.875
# Rows a file: what a killed process loses at most. Images a pass through the network, on a CPU core and on a GPU.
_ROWS, _BATCH, _BATCH_ON_GPU = 512, 32, 256
_DIGEST = 16
_READ = 256


def view(images: Tensor, number: int) -> Tensor:
    """A view of float images [B, 3, H, W], by its place in `VIEWS`."""
    if number >= 2:
        side = max(1, round(MIDDLE * images.shape[2]))
        start = (images.shape[2] - side) // 2
        middle = images[:, :, start : start + side, start : start + side]
        images = nn.functional.interpolate(middle, images.shape[2:], mode="bilinear", antialias=True)
    return images.flip(3) if number % 2 else images


class Embedder:
    """A network ready to embed: batch normalisation folded into convolutions, channels last.

    Parameters
    ----------
    source, size
        The network, and the side of its images.
    device
        Where it computes.
    """

    def __init__(self, source: Source, size: int, device: torch.device) -> None:
        network, channels = source.build(size)
        self.device = device
        fold(network)
        self._embedding = Embedding(network, channels).eval().to(device).to(memory_format=torch.channels_last)

    @property
    def features(self) -> int:
        """How many there are of an image."""
        return self._embedding.features

    @torch.inference_mode()
    def __call__(self, images: Tensor, number: int = 0) -> Tensor:
        """Features float16 [B, D] on the CPU of one view of uint8 images [B, 1 or 3, S, S]."""
        images = images.to(self.device).expand(-1, 3, -1, -1)
        seen = view(images.float() / 255, number).contiguous(memory_format=torch.channels_last)
        return self._embedding(seen).flatten(1).half().cpu()


def fold(network: nn.Module) -> None:
    """Fold batch normalisation into the convolution before it wherever the two follow each other in a Sequential."""
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        names = list(module._modules)
        for first, second in itertools.pairwise(names):
            convolution, norm = module._modules[first], module._modules[second]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module._modules[first] = fuse_conv_bn_eval(convolution, norm)
                module._modules[second] = nn.Identity()


class Rows:
    """The rows that are known of one network: a folder of `cache_dir`."""

    def __init__(self, cache_dir: str | Path, source: Source, size: int) -> None:
        key = key_of(builder="features", version=VERSION, network=source.network, digest=source.digest, size=size)
        name = source.network.replace("/", "-")
        self.folder = Path(cache_dir) / f"features-{name}-{size}-{key[:20]}"
        self._key = key
        note(self.folder.name)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the folder, which is made where it is not there.

        Raises
        ------
        UserError
            It cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder.with_name(self.folder.name + ".lock"))
            lock.acquire()
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        try:
            about = self.folder / "meta.json"
            if not about.exists():
                about.write_text(json.dumps({"key": self._key, "features": VERSION}), encoding="utf-8")
            for left in self.folder.glob("*.partial"):
                left.unlink(missing_ok=True)
            yield
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        finally:
            lock.release()

    def read(self, width: int) -> tuple[np.ndarray, Tensor]:
        """Names uint8 [M, 17] and features float16 [M, D] of all rows; damaged files are removed, with a line.

        A row's name is the digest of its image and the number of the view.
        """
        names, rows = [np.zeros((0, _DIGEST + 1), np.uint8)], [torch.zeros(0, width, dtype=torch.float16)]
        for file in sorted(self.folder.glob("*.safetensors")):
            wrong = None
            try:
                check_regular(file)
                with file.open("rb") as handle:
                    intact = hashlib.file_digest(handle, "sha256").hexdigest()[:32] == file.stem
                held = load_file(file) if intact else {}
                if held.keys() != {"names", "features"} or held["features"].shape[1:] != (width,):
                    wrong = "not what was written"
            except (OSError, SafetensorError, ValueError) as error:
                wrong, held = str(error), {}
            if wrong is not None:
                warnings.warn(f"{file} is damaged ({wrong}): its images are embedded again", stacklevel=3)
                file.unlink(missing_ok=True)
                continue
            names.append(held["names"].numpy())
            rows.append(held["features"])
        return np.concatenate(names), torch.cat(rows)

    def write(self, names: np.ndarray, features: Tensor) -> None:
        """Add a file of rows, whole or not at all."""
        content = save({"names": torch.from_numpy(names.copy()), "features": features.contiguous()})
        target = self.folder / f"{hashlib.sha256(content).hexdigest()[:32]}.safetensors"
        partial = target.with_suffix(".partial")
        with partial.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(target)


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"cache_dir {folder.parent.absolute()} cannot be written to ({error.strerror or error}): "
        "free some space, fix its permissions or choose another cache_dir"
    )


def embedded(
    images: Sequence[Tensor | MappedImages],
    source: Source,
    views: int,
    cache_dir: str | Path,
    device: torch.device,
    *,
    workers: int = 1,
    title: str = "features",
    progress: bool = True,
) -> list[Tensor]:
    """Features float16 [N, V, D] of each of some stacks of uint8 images [N, C, S, S].

    Parameters
    ----------
    source, views
        The network, and how many of `VIEWS` there are of each image.
    cache_dir
        Where rows are looked up and kept.
    device, workers
        Where the network computes; on a CPU by how many threads.
    title, progress
        What the progress bar is called, and whether there is one.

    Raises
    ------
    UserError
        `cache_dir` cannot be written to, or the weights do not fit the network.
    """
    size = images[0].shape[2]
    stacks = [_digests(stack, workers) for stack in images]
    wanted = np.concatenate([_named(digests, number) for digests in stacks for number in range(views)])
    embedder = Embedder(source, size, device)
    store = Rows(cache_dir, source, size)
    with store.locked():
        names, _ = store.read(embedder.features)
        missing = ~np.isin(_as_keys(wanted), _as_keys(names))
        _, first = np.unique(_as_keys(wanted), return_index=True)
        todo = np.intersect1d(np.flatnonzero(missing), first)
        if len(todo):
            places = _places(stacks, views)
            _fill(store, embedder, images, places[todo], wanted[todo], workers, title, progress)
        names, rows = store.read(embedder.features)
    keys = _as_keys(names)
    order = np.argsort(keys, kind="stable")
    found = order[np.searchsorted(keys[order], _as_keys(wanted))]
    result, start = [], 0
    for digests in stacks:
        count = len(digests) * views
        part = rows.index_select(0, torch.from_numpy(found[start : start + count]))
        result.append(part.view(views, len(digests), -1).transpose(0, 1).contiguous())
        start += count
    return result


def _fill(
    store: Rows,
    embedder: Embedder,
    images: Sequence[Tensor | MappedImages],
    places: np.ndarray,
    names: np.ndarray,
    workers: int,
    title: str,
    progress: bool,
) -> None:
    """Embed what is not known yet; `places` are stack, row and view of each name, int64 [n, 3]."""
    on_cpu = embedder.device.type == "cpu"
    batch, threads = (_BATCH, max(1, workers)) if on_cpu else (_BATCH_ON_GPU, 1)

    def work(part: np.ndarray) -> Tensor:
        found = torch.empty(len(part), embedder.features, dtype=torch.float16)
        for stack, number in np.unique(part[:, [0, 2]], axis=0):
            mine = np.flatnonzero((part[:, 0] == stack) & (part[:, 2] == number))
            found[mine] = embedder(images[stack][torch.from_numpy(part[mine, 1])], int(number))
        return found

    before = torch.get_num_threads()
    with tqdm(
        total=len(places), desc=title, unit="view", disable=None if progress else True, file=sys.__stderr__
    ) as bar:
        try:
            # Whole batches beside each other keep all cores busier than threads within one operation.
            with ThreadPoolExecutor(threads, initializer=_alone if on_cpu and threads > 1 else None) as pool:
                for start in range(0, len(places), _ROWS):
                    block = places[start : start + _ROWS]
                    parts = [block[i : i + batch] for i in range(0, len(block), batch)]
                    rows = []
                    for part, found in zip(parts, pool.map(work, parts), strict=True):
                        rows.append(found)
                        bar.update(len(part))
                    store.write(names[start : start + _ROWS], torch.cat(rows))
        finally:
            torch.set_num_threads(before)


def _alone() -> None:
    torch.set_num_threads(1)


def _digests(images: Tensor | MappedImages, workers: int) -> np.ndarray:
    """Of each image, uint8 [N, 16]: of its shape and its pixels."""
    head = str(tuple(images.shape[1:])).encode()

    def work(start: int) -> np.ndarray:
        rows = images[torch.arange(start, min(start + _READ, len(images)))].cpu().contiguous().numpy()
        found = [hashlib.blake2b(row.data, digest_size=_DIGEST, key=head).digest() for row in rows]
        return np.frombuffer(b"".join(found), dtype=np.uint8).reshape(-1, _DIGEST)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        parts = list(pool.map(work, range(0, len(images), _READ)))
    return np.concatenate(parts) if parts else np.zeros((0, _DIGEST), dtype=np.uint8)


def _named(digests: np.ndarray, number: int) -> np.ndarray:
    return np.concatenate([digests, np.full((len(digests), 1), number, dtype=np.uint8)], axis=1)


def _places(stacks: Sequence[np.ndarray], views: int) -> np.ndarray:
    """Stack, row and view of every name, in the order in which they are asked for."""
    parts = [
        np.stack([np.full(len(digests), stack), np.arange(len(digests)), np.full(len(digests), number)], axis=1)
        for stack, digests in enumerate(stacks)
        for number in range(views)
    ]
    return np.concatenate(parts)


def _as_keys(names: np.ndarray) -> np.ndarray:
    """Rows of bytes as values that can be compared and sorted, [N]; of one length, so a zero at the end is no harm."""
    return np.ascontiguousarray(names).view(f"S{_DIGEST + 1}").ravel()
