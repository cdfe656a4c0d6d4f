"""A whole study of one folder of images: what the shortcut is, what it does, what helps, and what to look at."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from debias.data.mapped import in_memory
from debias.data.properties.alone import logits_by, operator_of, telling_alone
from debias.data.properties.descriptors import DESCRIPTORS, image_properties
from debias.data.properties.intervals import Share
from debias.data.properties.looked_at import reduced
from debias.data.split import Split, Task
from debias.diagnosis.look import Diagnosis
from debias.diagnosis.verdict import Verdict
from debias.models.onfeatures import EARLY
from debias.stages.common.scores import ranks_for, score_artifact
from debias.stages.moved import donors_of, moved_features
from debias.study.candidates import ELSEWHERE, WHERE_NAMED, Candidate, answers, held_out_labels, on_moved, train
from debias.study.choice import PLAIN, Evidence, agreed_cells, faithful, preferred, recommended
from debias.study.clusters import Cluster, clusters_of, set_apart
from debias.study.labels import Labels, judged, out_of_fold
from debias.study.similar import Pair, pairs_alike
from debias.training.artifacts import BiasLabels, ConflictScore, TrainedModel, take
from debias.training.heldout import HELD_OUT_BIAS
from debias.training.store import Store

FIRST = 40  # images to look at


@dataclass(frozen=True, eq=False)
class Findings:
    """What a study found.

    task : what was trained on; diagnosis : of the images
    names : properties of images that the shortcut consists of; none where none was named
    candidates : by method; chosen : the method
    real, moved : what they get right of held-out images, as they are and with the shortcut of others; the latter None
    where no property is named; telling : whether it says anything, as the shortcut moves as a whole; moved_test : the
    same of test images, which choose nothing; None where it says nothing
    along, against : bool [N], which test images have the shortcut of their class, and of another one; neither, where
    miners disagree; None where there is no shortcut
    suspects : of every training image; first : places of those to look at; labels, pairs, clusters : None without
    features
    seconds : by part
    """

    task: Task
    diagnosis: Diagnosis
    names: tuple[str, ...]
    candidates: Mapping[str, Candidate]
    chosen: str
    real: Evidence
    moved: Evidence | None
    telling: bool
    moved_test: Evidence | None
    along: Tensor | None
    against: Tensor | None
    suspects: ConflictScore
    first: Tensor
    labels: Labels | None
    pairs: list[Pair] | None
    clusters: list[Cluster] | None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """Of the diagnosis."""
        return self.diagnosis.verdict

    def accuracy(self, method: str, which: Tensor | None = None) -> Share:
        """Of a method on test images, of those in `which` (bool [N]) where that is given."""
        right = self.candidates[method].test.argmax(1) == self.task.test.target.cpu()
        right = right if which is None else right[which]
        return Share(float(right.sum()), len(right))

    def on_others(self, method: str) -> Share | None:
        """Of a method on test images that were given the shortcut of another class; None where that says nothing."""
        if self.moved_test is None:
            return None
        classes = self.task.n_targets
        other = self.moved_test.cell // classes != self.moved_test.cell % classes
        right = self.moved_test.right[method][other]
        return Share(float(right.sum()), len(right))

    def by_class(self, method: str) -> list[Share]:
        """Of a method on the test images of each class."""
        target = self.task.test.target.cpu()
        return [self.accuracy(method, target == label) for label in range(self.task.n_targets)]

    def held_out(self, method: str) -> float:
        """Accuracy on held-out training images, in percent, as a mean over cells of class and pseudo label."""
        return 100 * self.real.balanced(method)

    def held_out_moved(self, method: str) -> float | None:
        """The same of held-out images that were given the shortcut of others; None where no property is named."""
        return None if self.moved is None else 100 * self.moved.balanced(method)


def shortcut_properties(found: Diagnosis, small: Split, classes: int, seed: int) -> tuple[str, ...]:
    """The properties that the shortcut consists of; none where the diagnosis names none that can be measured.

    small : the images that were diagnosed
    """
    if found.verdict.kind != "named":
        return ()
    moving = [one for one in found.properties if _operator(one.name) == found.verdict.operator]
    if not moving:
        return ()
    images = in_memory(small.images)
    return tuple(one.told.name for one in telling_alone(images, small.target, classes, seed, first=moving[0]))


def _operator(name: str) -> str:
    return DESCRIPTORS[name].operator if name in DESCRIPTORS else ""


def find(
    task: Task,
    found: Diagnosis,
    names: tuple[str, ...],
    settings_of: Callable[[str], Mapping[str, Any]],
    device: torch.device,
    store: Store,
    seed: int,
    say: Callable[[str], None],
    progress: bool,
) -> Findings:
    """Train the candidates, choose, and look for what is wrong with the images.

    Parameters
    ----------
    task
        The images, or their features, with held-out training images.
    found, names
        The diagnosis, and what `shortcut_properties` made of it.
    settings_of
        All settings of a run of a method.
    """
    assert task.valid is not None
    seconds: dict[str, float] = {}
    started = time.monotonic()
    order: tuple[str, ...] = WHERE_NAMED if names else ELSEWHERE
    candidates = train(order, task, settings_of, device, store, say, progress)
    order = tuple(method for method in order if method in candidates)
    seconds["training"] = time.monotonic() - started
    started = time.monotonic()
    classes, targets = task.n_targets, task.train.target.cpu()
    # Of the method that is preferred; of the plain one alone there are none, and cells are classes.
    miner = next((one.outcome.artifacts for one in candidates.values() if HELD_OUT_BIAS in one.outcome.artifacts), {})
    places, cell = agreed_cells(task.valid.target.cpu(), held_out_labels(candidates), classes)
    right = {name: (one.held.argmax(1) == task.valid.target.cpu())[places] for name, one in candidates.items()}
    real, moved = Evidence(right, cell), None
    if names:
        moved = on_moved(candidates, task, task.valid, operator_of(names), settings_of(PLAIN), device, progress)
    telling = moved is not None and faithful(real, moved)
    moved_test = None
    if telling:
        moved_test = on_moved(candidates, task, task.test, operator_of(names), settings_of(PLAIN), device, progress)
    chosen = recommended(found.verdict.kind, preferred(order, telling), real, moved if telling else None)
    suspects = _suspects(task, [one.outcome.artifacts for one in candidates.values()])
    known = bool(names) or (found.verdict.kind == "unmoved" and bool(miner))
    along, against = _by_shortcut(task, names, candidates, seed, device) if known else (None, None)
    labels = pairs = clusters = None
    if task.train.is_features:
        parts = [_late(part) for part in (task.train, task.valid, task.test)]
        pseudo = take(miner, "bias", BiasLabels).label if miner else torch.zeros_like(targets)
        of_train = targets * classes + (
            pseudo if names or found.verdict.kind == "unmoved" else torch.zeros_like(pseudo)
        )
        fitted, asked = parts[0], None
        if "property_moved" in candidates:
            own = settings_of("property_moved")
            if len(task.train) <= own["moved"]["images"]:
                # They are in the cache, as the method was trained on them.
                of_train = targets
                donors = donors_of(len(task.train), own["moved"]["copies"], seed)
                operator = operator_of(names)
                fitted = moved_features(
                    task, task.train, operator.taking_away, operator.where, donors, own, device, progress=False
                )
                fitted = fitted[:, :, :-EARLY]
                # One answer may go by what an image was given; those to several, and to the image as it is, do less.
                asked = torch.cat([fitted, parts[0][:, :1]], 1)
        said = out_of_fold(fitted, targets, classes, of_train, seed, asked)
        labels = judged(said, targets, pseudo != targets if known and miner else None)
        small = torch.cat([reduced(in_memory(part.shown)).cpu() for part in (task.train, task.valid, task.test)])
        pairs = pairs_alike(torch.cat([part[:, 0] for part in parts]), small)
        clusters = _clusters(task, parts, candidates, chosen, seed)
    ranks = suspects.order.clone()
    if labels is not None:
        ranks[labels.wrong] = -torch.inf
    first = torch.argsort(ranks, descending=True, stable=True)[:FIRST]
    first = first[torch.isfinite(ranks[first])]
    seconds["looking"] = time.monotonic() - started
    return Findings(
        task,
        found,
        names,
        candidates,
        chosen,
        real,
        moved,
        telling,
        moved_test,
        along,
        against,
        suspects,
        first,
        labels,
        pairs,
        clusters,
        seconds,
    )


def _late(split: Split) -> Tensor:
    """Late features float16 [N, V, D] on the CPU: of what is shown, and not of colours and borders."""
    return in_memory(split.images).cpu()[:, :, :-EARLY]


def _suspects(task: Task, artifacts: list[Mapping[str, Any]]) -> ConflictScore:
    """The miners' scores together: images that any of them flags come first, and all by the mean of their ranks."""
    mined = {}
    for given in artifacts:
        if "conflict_score" in given:
            found = take(given, "conflict_score", ConflictScore)
            mined[found.miner] = found
    used = [one for one in mined.values() if bool((one.score > one.threshold).any())] or list(mined.values())
    ranks, flags = torch.zeros(len(task.train)), torch.zeros(len(task.train), dtype=torch.bool)
    if not used:
        return score_artifact(task.train.ids, ranks, 0.5, "none")
    for one in used:
        own = ranks_for(one, task.train, "study").cpu()
        ranks += own.argsort(stable=True).argsort(stable=True).float() / len(used)
        flags |= one.score > one.threshold
    miner = " and ".join(one.miner for one in used)
    score = (flags.float() + ranks / max(1, len(ranks))) / 2
    return score_artifact(task.train.ids, score, 0.5, miner)


def _by_shortcut(
    task: Task, names: tuple[str, ...], candidates: Mapping[str, Candidate], seed: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Which test images have the shortcut of their class, and which that of another one, bool [N] each.

    By the property alone and by the network that was biased on purpose; an image on which they disagree is neither.
    """
    labels = []
    if names:
        small, tests = (reduced(in_memory(part.shown)).cpu() for part in (task.train, task.test))
        _, said = logits_by(names, small, task.train.target.cpu(), task.n_targets, seed, tests)
        labels.append(said.argmax(1))
    biased = next((one.outcome.artifacts for one in candidates.values() if "shortcut" in one.outcome.artifacts), None)
    if biased is not None:
        labels.append(answers(take(biased, "shortcut", TrainedModel), task, task.test, device).argmax(1))
    target = task.test.target.cpu()
    same = torch.stack([one == labels[0] for one in labels]).all(0)
    return same & (labels[0] == target), same & (labels[0] != target)


def _clusters(
    task: Task, parts: list[Tensor], candidates: Mapping[str, Candidate], chosen: str, seed: int
) -> list[Cluster]:
    """Clusters of images that no method was trained on, the worst for the chosen method first."""
    assert task.valid is not None
    target = torch.cat([task.valid.target.cpu(), task.test.target.cpu()])
    images = torch.cat([reduced(in_memory(part.shown)).cpu() for part in (task.valid, task.test)])
    properties = image_properties(images)
    right = {
        name: torch.cat([one.held, one.test]).argmax(1) == target for name, one in candidates.items()
    }  # fmt: skip
    found = []
    for label, places in clusters_of(torch.cat([part[:, 0] for part in parts[1:]]), target, seed):
        shares = {name: float(own[places].float().mean()) for name, own in right.items()}
        apart = set_apart(properties, places, torch.nonzero(target == label).flatten())
        found.append(Cluster(label, places, shares, apart))
    return sorted(found, key=lambda one: one.shares[chosen])
