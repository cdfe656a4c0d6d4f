"""Where models look: heat on suspects and on images that two models answer differently, and its share in a region."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from debias.data.mapped import in_memory
from debias.data.operators import OPERATORS
from debias.data.properties.descriptors import DESCRIPTORS
from debias.data.split import Split, Task
from debias.errors import UserError
from debias.features.choice import source_of
from debias.models.embedders import Embedding
from debias.models.export import Deployed
from debias.models.heat import Contrast, Heat, covered, has_maps, heat_of_answers, share_inside
from debias.models.registry import build_classifier
from debias.randomness import stream
from debias.study.candidates import answers
from debias.training.artifacts import TrainedModel

# Images that are drawn; test images that shares are means over, and of which those are taken that models answer
# differently. They bound what this costs: on a CPU core a photograph of 224 pixels takes some 30 ms.
SHOWN, ASKED, POOL = 12, 40, 1000
SUSPECT, DIFFER = "suspects", "answers differ"
_BATCH = 20


@dataclass(frozen=True, eq=False)
class Region:
    """A place in images that a shortcut is in, and how much of models' heat lies there.

    where : in words; mask : bool [H, W]
    shares : by model, float [n] in [0, 1], of the test images on which it has heat
    most : what of a map's heat can lie there, as its places are coarse
    """

    where: str
    mask: Tensor
    shares: Mapping[str, Tensor]
    most: float

    @property
    def part(self) -> float:
        """Of the image, as a share of its pixels."""
        return float(self.mask.float().mean())


@dataclass(frozen=True, eq=False)
class Looks:
    """Where one model or two look for the class that they answer.

    images : uint8 [N, C, H, W]; target : int64 [N]; why : of each, `SUSPECT` or `DIFFER`
    answers : by model, int64 [N]; heat : by model, float [N, h, w], 0 and above
    exact : models whose maps are exact; missing : by model without maps, why it has none
    regions : where the shortcut is; nowhere : properties that have no place
    """

    images: Tensor
    target: Tensor
    why: tuple[str, ...]
    answers: Mapping[str, Tensor]
    heat: Mapping[str, Tensor]
    exact: tuple[str, ...]
    missing: Mapping[str, str]
    regions: tuple[Region, ...]
    nowhere: tuple[str, ...]


def where_they_look(
    models: Mapping[str, TrainedModel],
    task: Task,
    suspects: Tensor,
    properties: Sequence[str],
    settings: Mapping[str, Any],
    device: torch.device,
) -> Looks:
    """Heat of models on some training and test images.

    Parameters
    ----------
    models
        By name, the biased one first; one or two.
    task
        The images, or their features, that they were trained on.
    suspects
        Places of training images, those to be drawn first.
    properties
        What the shortcut was named: names of `data.properties.descriptors`, or none.
    settings
        Of the run: seed, and where weights of a pretrained network are found (data_dir, cache_dir).
    """
    networks, missing = _networks(models, task, settings, device)
    draws = torch.randperm(len(task.test), generator=stream(settings["seed"], "looks"))
    pool = task.test.subset(draws[:POOL])
    differing = _differing([answers(models[name], task, pool, device) for name in networks])
    chosen = suspects[: SHOWN - len(differing)]
    images = torch.cat([_pictures(task.train.subset(chosen)), _pictures(pool.subset(differing))])
    asked = _pictures(pool.subset(torch.arange(min(ASKED, len(pool)))))
    own = {name: _heat(network, images, device) for name, network in networks.items()} if len(images) else {}
    others = {name: _heat(network, asked, device).values for name, network in networks.items()}
    moving = {DESCRIPTORS[name].operator: None for name in properties}  # each once, and in their order
    operators = [OPERATORS[name] for name in moving if name]
    return Looks(
        images,
        torch.cat([task.train.target.cpu()[chosen], pool.target.cpu()[differing]]),
        (SUSPECT,) * len(chosen) + (DIFFER,) * len(differing),
        {name: found.classes for name, found in own.items()},
        {name: found.values for name, found in own.items()},
        tuple(name for name, found in own.items() if found.exact),
        missing,
        tuple(_region(one.where, one.area(asked), others) for one in operators if one.area is not None),
        tuple(dict.fromkeys(one.where for one in operators if one.area is None)),
    )


def _networks(
    models: Mapping[str, TrainedModel], task: Task, settings: Mapping[str, Any], device: torch.device
) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Networks on images in [0, 1], and of those that cannot be drawn, why."""
    if task.vector_size:
        return {}, dict.fromkeys(models, "its network is given a second modality beside the image")
    embedding = None
    if task.features is not None:
        data_dir = settings.get("data_dir")
        where = None if data_dir is None else str(data_dir)
        try:
            source = source_of(task.features, None, where, str(settings["cache_dir"]))
            embedding = Embedding(*source.build(task.picture_shape[1]))
        except UserError as error:
            # Features may come out of the cache alone. What has been trained is not lost for want of a picture.
            return {}, dict.fromkeys(models, str(error))
    normalise = None if task.mean is None else {"mean": task.mean, "std": task.std}
    found: dict[str, nn.Module] = {}
    missing = {}
    example = _pictures(task.test.subset(torch.zeros(1, dtype=torch.long)))
    for name, model in models.items():
        network = build_classifier(model.spec)
        network.load_state_dict(model.states["last"])
        whole = Contrast(Deployed(network, {"normalise": normalise}, embedding)).to(device).eval()
        if has_maps(whole, _floats(example, device)):
            found[name] = whole
        elif embedding is None:
            missing[name] = f"its network ({model.spec['backbone']}) has no maps"
        else:
            missing[name] = f"its network ({model.spec['backbone']}) reads statistics of first layers, and no places"
    return found, missing


def _differing(said: Sequence[Tensor]) -> Tensor:
    """Places of images to which two models give different answers, the furthest apart first; none of one model."""
    if len(said) < 2:
        return torch.empty(0, dtype=torch.long)
    one, other = said
    apart = (one - other).abs().sum(1) * (one.argmax(1) != other.argmax(1))
    order = torch.argsort(apart, descending=True, stable=True)
    return order[apart[order] > 0][: SHOWN // 2]


def _heat(network: nn.Module, images: Tensor, device: torch.device) -> Heat:
    """Of uint8 images [N, C, H, W], on the CPU."""
    parts = [heat_of_answers(network, _floats(part, device)) for part in images.split(_BATCH)]
    classes, values = (torch.cat([getattr(part, name) for part in parts]).cpu() for name in ("classes", "values"))
    return Heat(classes, values, parts[0].exact)


def _region(where: str, mask: Tensor, heat: Mapping[str, Tensor]) -> Region:
    shares = {name: share_inside(values, mask) for name, values in heat.items()}
    most = [float(covered(mask, values.shape[1:]).amax()) for values in heat.values()]
    return Region(where, mask, {name: share[~share.isnan()] for name, share in shares.items()}, min(most, default=1.0))


def _floats(images: Tensor, device: torch.device) -> Tensor:
    return images.to(device).float() / 255


def _pictures(split: Split) -> Tensor:
    """What is looked at, uint8 [N, 1 or 3, H, W] on the CPU."""
    return in_memory(split.shown).cpu()


def mean_share(share: Tensor) -> tuple[float, float]:
    """Mean of shares, float [n], and half of its 95 % interval; NaN where there are none, and of one."""
    return float(share.mean()), 1.96 * float(share.std()) / math.sqrt(max(1, len(share)))


def look_lines(looks: Looks) -> list[str]:
    """What the picture shows, and the share of heat in each place that the shortcut was found in."""
    lines = [f"nothing is drawn of {name}: {why}" for name, why in looks.missing.items()]
    if not looks.heat:
        # Nor is there a share where no model has maps; there may be one where there are no images to be drawn.
        return lines + [_region_line(region) for region in looks.regions if region.shares]
    lines += [_region_line(region) for region in looks.regions]
    lines += [f"{where}: that is everywhere in an image, so no share of heat is given" for where in looks.nowhere]
    if not looks.regions and not looks.nowhere:
        lines.append("no shortcut with a place is named, so no share of heat is given")
    sizes = sorted({f"{values.shape[1]} x {values.shape[2]}" for values in looks.heat.values()})
    how = [f"{name}: {'class activation map' if name in looks.exact else 'Grad-CAM'}" for name in looks.heat]
    lines.append(
        f"bright is what speaks most for the class that a model answers, by maps of {' and '.join(sizes)} places "
        f"({', '.join(how)}); a map is coarse and proves nothing: whether a model relies on the shortcut is seen "
        "in its accuracy on images that go against it"
    )
    return lines


def _region_line(region: Region) -> str:
    means = {name: mean_share(share) for name, share in region.shares.items() if len(share)}
    if not means:
        return f"{region.where}: no test image has any heat"
    shares = [
        f"of the heat of {name} {100 * mean:.0f} % (± {100 * around:.0f})" for name, (mean, around) in means.items()
    ]
    count = min(len(region.shares[name]) for name in means)
    line = (
        f"{region.where}: {', '.join(shares)} lies there; spread evenly, {100 * region.part:.0f} % would (means over "
        f"{count} test images, and 95 % intervals)"
    )
    if region.most < 0.95:
        line += f"; as places of a map are coarse, no more than {100 * region.most:.0f} % can"
    return line


def looks_record(looks: Looks) -> dict[str, Any]:
    """What `info.json` keeps: the lines, and the mean share of each model's heat in each place, in percent."""
    return {
        "lines": look_lines(looks),
        "regions": {
            region.where: {
                "part": 100 * region.part,
                **{name: 100 * mean_share(share)[0] for name, share in region.shares.items() if len(share)},
            }
            for region in looks.regions
        },
    }
