"""What cases of bad input share: how one is judged, and the weights and photographs that they start from."""

import debias.waiting  # noqa: F401 - before torch

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DIGITS = ["with", "colored_digits", "erm", "quick", "limit=60", "pretrain.epochs=1", "threads=1", "progress=False"]
EVALUATE = ["evaluate", "with", "colored_digits", "limit=60", "threads=1", "progress=False"]
PHOTOS = ["samples", "with", "own_images", "image_size=32", "progress=False", "threads=1"]
_NOBODY = 65534
HOSTILE = "\x1b[31mred\x1b]0;title\x07"


@dataclass
class BadInput:
    """call : runs the command and gives its status; said : what must be in the output where the status is 0; named :
    what must be in it whatever the status, such as the file that is at fault
    """

    call: Callable[[], Any]
    said: str = ""
    fine: bool = False
    named: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def judge(self, status: object, said: str, folder: Path) -> str:
        """What is wrong, in a few words; empty when nothing is."""
        if isinstance(status, str):
            return status
        if "\x1b[31m" in said or "\x1b]0;" in said:
            return "TERMINAL ESCAPE"
        if "Traceback (most recent call last)" in said:
            return "TRACEBACK printed"
        left = [path for path in folder.rglob("run.json") if '"RUNNING"' in path.read_text(errors="replace")]
        if left:
            return f"LEFT {left[0].name} of a run as running"
        if parts := [path.name for pattern in ("*.partial", ".*.pt.*") for path in folder.rglob(pattern)]:
            return f"LEFT half-written {parts[0]}"
        if self.named not in said:
            return f"does not mention {self.named}"
        if status == 2:
            return "" if re.search(r"^error: ", said, re.MULTILINE) else "status 2 without a line"
        if status != 0:
            return f"STATUS {status}"
        if self.fine or (self.said and re.search(self.said, said)):
            return ""
        return "ACCEPTED without a word"


class Kit:
    """Weights and photographs that cases start from, made once."""

    def __init__(self, folder: Path, main: Callable[[list[str]], int]) -> None:
        self.folder, self.main = folder, main
        folder.mkdir(parents=True)
        self.cache = folder / "cache"

    def words(self, words: list[str], folder: Path) -> list[str]:
        """A command line that keeps to its folder."""
        given = {word.partition("=")[0] for word in words}
        more = [] if "store" in given else [f"store={folder / 'runs'}"]
        more += [] if "cache_dir" in given else [f"cache_dir={self.cache}"]
        return [*words, *([] if "with" in words else ["with"]), *more]

    @functools.cached_property
    def weights(self) -> Path:
        assert self.main(self.words(DIGITS, self.folder)) == 0
        return self.folder / "runs" / "1" / "weights.safetensors"

    def photos(self, folder: Path, classes: tuple[str, ...] = ("cat", "dog"), each: int = 6) -> Path:
        for number, name in enumerate(classes):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for i in range(each):
                picture(number, i).save(folder / name / f"{i:03d}.png")
        return folder


def picture(kind: int, number: int, size: int = 32) -> Image.Image:
    pixels = np.random.default_rng(1000 * kind + number).integers(0, 255, (size, size, 3)).astype(np.uint8)
    return Image.fromarray(pixels)


def plain(kit: Kit, folder: Path, words: list[str], **more: Any) -> BadInput:
    return BadInput(lambda: kit.main(kit.words(words, folder)), **more)


def deep() -> str:
    return "[" * 200_000 + "]" * 200_000


@contextlib.contextmanager
def without_rights(*writable: Path) -> Iterator[None]:
    """As somebody whom rights bind, where this process is an administrator's; `writable` are made everybody's."""
    for path in writable:
        path.mkdir(parents=True, exist_ok=True)
        for own in (path, *path.rglob("*")):
            own.chmod(own.stat().st_mode | 0o777)
    administrator = os.geteuid() == 0
    if administrator:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if administrator:
            os.seteuid(0)


def results_command(words: list[str]) -> int:
    from debias import results

    return results.main(words)
