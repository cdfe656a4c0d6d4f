"""How much of the bias, and of the target, can be read off frozen features by a linear classifier."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from debias.data.split import Split, Task, stratified_choice
from debias.errors import UserError
from debias.models.checkpoint import Bundle
from debias.randomness import stream
from debias.training.evaluation import in_order

PROBED_ON = ("test", "train")


def probe(bundle: Bundle, task: Task, probe_on: str, seed: int) -> dict[str, dict[str, float]]:
    """Accuracy of linear classifiers of target and bias on the features of every network of a checkpoint.

    Every group, a cell of target and bias, counts the same in fitting and in measuring: on biased images a classifier
    of the bias could otherwise go by what the features say of the target, and the other way round.

    Parameters
    ----------
    bundle
        Networks in evaluation mode, on the task's device.
    task
        Its test images carry bias labels, or the target alone is probed.
    probe_on
        What the classifiers are fitted on: half of the test images of every group, measured on the other half; or the
        training images, measured on all test images.
    seed
        Draws the halves.

    Returns
    -------
    For every network {"target": percent, "bias": percent}, means over the groups; without bias labels the former alone.

    Raises
    ------
    UserError
        There are too few images or classes to fit anything.
    """
    test = task.test
    if probe_on == "test":
        first = stratified_choice(_groups(test, task).cpu(), 0.5, stream(seed, "probe")).to(test.device)
        fitted, measured = test.subset(first.nonzero().flatten()), test.subset((~first).nonzero().flatten())
    else:
        fitted, measured = task.train, test
    if fitted.bias is None or measured.bias is None:
        fitted, measured = fitted.without_bias(), measured.without_bias()
    known, unseen = features_of(bundle, task, fitted), features_of(bundle, task, measured)
    labels = {"target": (fitted.target, measured.target)}
    if fitted.bias is not None and measured.bias is not None:
        labels["bias"] = (fitted.bias, measured.bias)
    weights = 1 / _size_of_group(fitted, task)
    shares = 1 / _size_of_group(measured, task)
    return {
        network: {
            what: readable(known[network], own, weights, unseen[network], other, shares)
            for what, (own, other) in labels.items()
        }
        for network in known
    }


def readable(
    features: Tensor, labels: Tensor, weights: Tensor, unseen: Tensor, expected: Tensor, shares: Tensor
) -> float:
    """Percent of `unseen` features, weighted by `shares`, whose label a linear classifier fitted on `features` says.

    Features, float [N, F], are standardised; the classifier is a logistic regression with an L2 penalty of 1.
    """
    if len(labels) == 0 or len(expected) == 0 or len(labels.unique()) < 2:
        raise UserError("probe: the images to fit on are of one class, or there are none; use more of them (limit)")
    # Imported here: every other command would wait a second for it.
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    classifier.fit(_numpy(features), _numpy(labels), logisticregression__sample_weight=_balanced(weights))
    right = classifier.predict(_numpy(unseen)) == _numpy(expected)
    return 100.0 * float(np.average(right, weights=_numpy(shares)))


def chance(task: Task) -> Mapping[str, float]:
    """What guessing reaches, in percent."""
    return {"target": 100.0 / task.n_targets} | ({"bias": 100.0 / task.n_biases} if task.n_biases else {})


@torch.inference_mode()
def features_of(bundle: Bundle, task: Task, split: Split) -> dict[str, Tensor]:
    """Features of every network, float [N, F] on the CPU, in the order of the split."""
    parts = [bundle.features(batch.inputs) for batch in in_order(task, split).epoch()]
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]} if parts else {}


def _groups(split: Split, task: Task) -> Tensor:
    return split.target if split.bias is None else split.target * task.n_biases + split.bias


def _size_of_group(split: Split, task: Task) -> Tensor:
    """For every image, how many the split has of its group."""
    group = _groups(split, task)
    return torch.bincount(group)[group].double()


def _balanced(weights: Tensor) -> np.ndarray:
    """Weights with mean 1, so that the penalty counts as much as without them."""
    return _numpy(weights / weights.mean())


def _numpy(values: Tensor) -> np.ndarray:
    return values.cpu().numpy()
