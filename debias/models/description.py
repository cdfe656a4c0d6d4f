"""What a file of weights says of itself: data from a stranger, looked through once, before anything is made of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from debias.errors import UserError
from debias.harmless import plain
from debias.models.registry import BACKBONES
from debias.settings import nearest
from debias.vocabulary import FRAMINGS

NETWORKS = {"branches": ("shallow", "deep"), "model": ("backbone",)}
# Of what is read as JSON; a longer text is not a description of ours.
MOST_TEXT, MOST_CLASSES, LARGEST_SIDE, MOST_CHANNELS = 4_000_000, 100_000, 4096, 65536


class Wrong(ValueError):
    """What is wrong with a description, in a few words."""


@dataclass(frozen=True)
class Description:
    """specs : networks by name (branches, model), as `build_branches` and `build_classifier` take them, all for images
        of one shape and for as many classes
    classes : names of the classes; None where the file does not say them
    preparation : fields of `data.preparation.Preparation`; None where the file does not say them
    normalise : {"mean": [C], "std": [C]}; None: none, or the file does not say it (`says_normalise`)
    features : network, digest and file of the pretrained weights whose features the networks take in place of images,
        and views; None: they take images
    texts : everything that the file says, as it is
    """

    specs: Mapping[str, Mapping[str, Any]]
    classes: tuple[str, ...] | None = None
    preparation: Mapping[str, Any] | None = None
    normalise: Mapping[str, list[float]] | None = None
    says_normalise: bool = False
    features: Mapping[str, Any] | None = None
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        channels, height, width = next(iter(self.specs.values()))["shape"]
        return channels, height, width

    @property
    def vector(self) -> int:
        """Length of the second modality's vector, 0 where there is none."""
        return max(int(spec.get("vector", 0)) for spec in self.specs.values())


def read_texts(texts: Mapping[str, str], where: str) -> Description:
    """The description in the texts that `save_weights` puts beside the weights.

    Raises
    ------
    UserError
        Beginning with `where`: anything that is missing, or not of the form in which it is written.
    """
    try:
        specs = _specs(_json(texts, "specs"))
        first = next(iter(specs.values()))
        features = _features(_json(texts, "features")) if "features" in texts else None
        classes = _classes(_json(texts, "classes"), first["classes"]) if "classes" in texts else None
        preparation = (
            _preparation(_json(texts, "preparation"), None if features else first["shape"])
            if "preparation" in texts
            else None
        )
        normalise = _normalise(_json(texts, "normalise"), first["shape"][0]) if "normalise" in texts else None
    except Wrong as error:
        raise UserError(f"{where}: its description is damaged or not ours: {error}") from None
    return Description(specs, classes, preparation, normalise, "normalise" in texts, features, dict(texts))


def read_json(text: str) -> Any:
    """JSON of a sane size and depth.

    Raises
    ------
    Wrong
    """
    if len(text) > MOST_TEXT:
        raise Wrong(f"a text of {len(text)} characters")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Wrong("not JSON, or too deep") from None


def check_spec(spec: Any, networks: tuple[str, ...]) -> dict[str, Any]:
    """A network's spec with only the fields that are known.

    networks : the fields that name a network

    Raises
    ------
    Wrong
    """
    if not isinstance(spec, dict):
        raise Wrong("a network is not described by fields")
    for name in networks:
        if name not in spec:
            raise Wrong(f"a network without {name!r}")
        if not isinstance(spec[name], str) or spec[name] not in BACKBONES:
            raise Wrong(f"no network is called {_short(spec[name])}{nearest(str(spec[name])[:50], BACKBONES)}")
    shape = spec.get("shape")
    most = (MOST_CHANNELS, LARGEST_SIDE, LARGEST_SIDE)
    if not isinstance(shape, list) or len(shape) != 3 or not all(map(_is_count, shape, (1, 1, 1), most)):
        raise Wrong(f"images of shape {_short(shape)}, not [channels, height, width]")
    if not _is_count(spec.get("classes"), 1, MOST_CLASSES):
        raise Wrong(f"{_short(spec.get('classes'))} classes")
    if not _is_count(spec.get("vector", 0), 0, LARGEST_SIDE):
        raise Wrong(f"a second modality of {_short(spec['vector'])} values")
    read_out = spec.get("read_out", "model")
    if not isinstance(read_out, str) or not read_out.isidentifier() or len(read_out) > 100:
        raise Wrong(f"a read-out called {_short(read_out)}")
    return spec


def _specs(value: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict) or not value:
        raise Wrong("no networks")
    for name in value:
        if name not in NETWORKS:
            raise Wrong(f"a network called {_short(name)}, not {' or '.join(NETWORKS)}")
    specs = {name: check_spec(spec, NETWORKS[name]) for name, spec in value.items()}
    if len({(*spec["shape"], spec["classes"]) for spec in specs.values()}) > 1:
        raise Wrong("networks for different images or classes")
    return specs


def _classes(value: Any, count: int) -> tuple[str, ...]:
    names = isinstance(value, list) and all(isinstance(name, str) and name for name in value)
    if not names or len(set(value)) != len(value) or len(value) != count:
        raise Wrong(f"names of classes that are not {count} different texts")
    if any(plain(name) != name for name in value):
        raise Wrong("names of classes with control characters")
    return tuple(value)


def _features(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() != {"network", "digest", "views", "file"}:
        raise Wrong("features that do not consist of network, digest, views and file")
    for name in ("network", "digest", "file"):
        if not isinstance(value[name], str) or not 0 < len(value[name]) < 5000 or plain(value[name]) != value[name]:
            raise Wrong(f"features whose {name} is {_short(value[name])}")
    if not _is_count(value["views"], 1, 64):
        raise Wrong(f"features of {_short(value['views'])} views")
    return value


def _preparation(value: Any, shape: list[int] | None) -> dict[str, Any]:
    """shape : of the images that networks are given; None where they are given features of them"""
    if not isinstance(value, dict) or not {"size"} <= value.keys() <= {"size", "framing", "margin"}:
        raise Wrong("a preparation of images that does not consist of size, framing and margin")
    size, framing, margin = value["size"], value.get("framing", "crop"), value.get("margin", 1.0)
    if not _is_count(size, 1, LARGEST_SIDE):
        raise Wrong(f"images are prepared at size {_short(size)}")
    if shape is not None and [size, size] != shape[1:]:
        raise Wrong(f"images are prepared at size {_short(size)}, and its network takes {shape[2]} x {shape[1]}")
    if framing not in FRAMINGS:
        raise Wrong(f"framing {_short(framing)}, none of {', '.join(FRAMINGS)}")
    if not _is_number(margin) or not 0 < margin <= 100:
        raise Wrong(f"margin {_short(margin)}")
    return {"size": size, "framing": framing, "margin": float(margin)}


def _normalise(value: Any, channels: int) -> dict[str, list[float]] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() != {"mean", "std"}:
        raise Wrong("a normalisation that does not consist of mean and std")
    for name in ("mean", "std"):
        numbers = value[name]
        # One number stands for all channels.
        fits = isinstance(numbers, list) and len(numbers) in (1, channels) and all(map(_is_number, numbers))
        if not fits or (name == "std" and min(numbers) <= 0):
            raise Wrong(f"a {name} of channels that is {_short(numbers)}")
    return {name: [float(number) for number in value[name]] for name in ("mean", "std")}


def _json(texts: Mapping[str, str], name: str) -> Any:
    try:
        return read_json(texts[name])
    except Wrong as error:
        raise Wrong(f"{name} is {error}") from None


def _is_count(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e6


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
