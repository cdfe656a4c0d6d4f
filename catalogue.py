"""Every setting by name: those of a run, and those of the stages."""

from data.augment import AUGMENTATIONS
from data.generated.biased import VALIDATIONS
from data.generated.colored import PLACEMENTS
from data.generated.jitter import PALETTES
from data.mapped import STREAMING
from data.photos.imagesets import PHOTOS, SIZES
from data.preparation import FRAMINGS
from data.registry import DATASETS
from settings import Setting, on_sources
from stages.recipes import RECIPES, STAGES
from training.captured import GRAPH
from training.linear_probe import PROBED_ON
from training.optimisers import OPTIMISERS
from training.speed import SPEED_SETTINGS

# Of data sets that are image files.
IMAGE_SETTINGS: dict[str, Setting] = {
    "image_size": Setting(
        None, "side of the images in pixels, for bffhq, celeba, bar and own_images",
        low=8, high=1024, optional=True, kind=int,
        # DCWP's own size; DeNetDM and DisEnt enlarge the 128 pixels of BFFHQ.
        at={**{name: SIZES[name] for name in PHOTOS}, ("dcwp", "bffhq"): 128, ("mrm", "bffhq"): 128},
    ),
    "framing": Setting(
        "crop", "how photographs of own_images become squares: their middle, stretched, or whole with black bars",
        choices=FRAMINGS,
    ),
    "augment": Setting(
        None, "random changes of training images; None: the data set's own", choices=("none", *AUGMENTATIONS),
        optional=True, kind=str, at={("dcwp", "bffhq"): "flip", ("mrm", "bffhq"): "flip"},
    ),
    "labels": Setting(
        None, "a CSV of own_images (path, target, and optionally bias, split), or the metadata CSV of celeba",
        optional=True, kind=str,
    ),
    "outside": Setting(False, "whether paths in `labels` may lead out of data_dir"),
    "test_fraction": Setting(
        0.2, "share of each class of own_images that becomes the test set, where none is given", low=0.0, high=0.9,
    ),
    "own_valid": Setting(
        False, "select by the validation images a data set brings (`valid_given`), unless valid_fraction is set",
        at={"own_images": True},
    ),
    "bad_files": Setting("stop", "broken, empty or wrongly named image files: stop, or skip", choices=("stop", "skip")),
    "duplicates": Setting(
        "keep", "image files with equal contents: stop, skip all but one, or keep",
        choices=("stop", "skip", "keep"), at={"own_images": "stop"},
    ),
    "similar": Setting(
        False, "look for test images that look like training images, such as one photograph saved twice"
    ),
    "folder": Setting(None, "folder or archive of images for `predict`", optional=True, kind=str),
    "output": Setting(
        None, "folder for what `predict` and `export` write; None: the run's folder", optional=True, kind=str
    ),
    "streaming": Setting(
        "auto", "read image files' batches from the cache: auto (where they do not fit on the device), always, never",
        choices=STREAMING,
    ),
}  # fmt: skip

RUN_SETTINGS: dict[str, Setting] = {
    "dataset": Setting("colored_mnist", "data set", choices=tuple(DATASETS)),
    "method": Setting("denetdm", "recipe, or a list of stages such as [branches, distill]", kind=object),
    "skew": Setting(
        0.05, "share of conflicting training images", low=0.0, high=1.0,
        at={"bffhq": 0.005, "celeba": 0.01} | on_sources(0.003, "biased") | on_sources(0.0, "jitter", "bimodal"),
    ),
    "rho": Setting(
        None, "the same said the other way, 1 - skew; None: as skew says", low=0.0, high=1.0,
        optional=True, kind=float,
    ),
    "n_confusing_labels": Setting(
        9, "how many other colours the conflicting training images of a class of biased_* get", low=1, high=9
    ),
    "severity": Setting(
        4, "how little colours vary (1 to 5: least) or how strong corruptions are (0 to 4: strongest)", low=0, high=5
    ),
    "type": Setting(0, "which ten corruptions Corrupted CIFAR-10 uses", choices=(0, 1)),
    "placement": Setting(
        "blocks",
        "which images of a class conflict: blocks, as in the released generator, or its last ones",
        choices=PLACEMENTS,
    ),
    "frost_dir": Setting(
        None, "folder of frost photographs for Corrupted CIFAR-10; None: frost made by rule", optional=True, kind=str
    ),
    "variance": Setting(0.03, "variance sigma^2 of the colours of jitter_*", low=0.0, high=1.0),
    "palette": Setting(
        "jitter", "mean colours of jitter_*: its own, those of colored_mnist, or random ones", choices=PALETTES
    ),
    "colour_std": Setting(0.1, "spread of the colours of bimodal_*", low=0.0, high=1.0),
    "reverse": Setting(False, "exchange target and bias"),
    "optimiser": Setting("adam", "optimiser of all stages", choices=tuple(OPTIMISERS)),
    "seed": Setting(1, "the only seed: data, weights, order", low=0, high=2**32 - 1),
    "replicas": Setting(
        1, "train so many seeds at once, this one and the next ones, each with a run of its own", low=1, high=256
    ),
    "valid_fraction": Setting(
        0.0, "share of training images held out for the selection `valid`", low=0.0, high=0.9,
        at=on_sources(0.1, "biased") | on_sources(0.2, "bimodal"),
    ),
    "validation": Setting(
        "unbiased",
        "validation images of biased_*: held out and coloured without bias, training images coloured anew without bias "
        "(overlapping, as published), or held out with the bias they have",
        choices=tuple(VALIDATIONS),
    ),
    "limit": Setting(
        None, "use only this many training images (and a sixth as many test images)",
        low=60, optional=True, kind=int,
    ),
    "quick": Setting(False, "small budgets, to see the whole thing in minutes"),
    "device": Setting("auto", "auto (a GPU when there is one), cpu, cuda, cuda:1, mps, ..."),
    **SPEED_SETTINGS,
    "graph": GRAPH,
    "threads": Setting(None, "CPU threads; None leaves it to torch", low=1, high=4096, optional=True, kind=int),
    "data_dir": Setting(
        None, "folder with the source files; else (not for own_images) the variable DATA_DIR; else a download",
        optional=True, kind=str,
    ),
    **IMAGE_SETTINGS,
    "imagenet_weights": Setting(
        None, "file of torchvision's ResNet-18 weights for networks named *_imagenet; else found or downloaded",
        optional=True, kind=str,
    ),
    "cache_dir": Setting(".cache", "folder for built data sets and downloads"),
    "tensorboard": Setting(False, "TensorBoard scalars in the run's folder (needs the package tensorboardx)"),
    "csv_metrics": Setting(False, "metrics.csv in the run's folder: metric, epoch, value"),
    "mongo_url": Setting(
        None, "MongoDB to record the run in as well, mongodb://host:port/database; else the variable MONGO_URL",
        optional=True, kind=str,
    ),
    "mongo_required": Setting(False, "stop when that server does not answer at the start, in place of files alone"),
    "mongo_file_mb": Setting(
        16.0, "larger files stay on disk, with path and digest in the database", low=0.0, high=2.0**20
    ),
    "store": Setting("runs", "folder for runs, and for finished stages in its subfolder stages"),
    "fresh": Setting(False, "compute every stage anew, whatever is stored"),
    "checkpoint_seconds": Setting(30.0, "least time between two checkpoints; 0: one each epoch", low=0.0),
    "progress": Setting(True, "progress bars"),
    "train": Setting(True, "False evaluates `checkpoint` instead of training"),
    "probe_on": Setting(
        "test",
        "what the command probe fits linear classifiers on: half of the test images, or the training images",
        choices=PROBED_ON,
    ),
    "checkpoint": Setting(
        None, "weights to evaluate: a file of ours, or a .th file of the authors' release",
        optional=True, kind=str,
    ),
}  # fmt: skip


def known_settings() -> dict[str, Setting]:
    """Every setting by its dotted name."""
    known = dict(RUN_SETTINGS)
    for stage in STAGES.values():
        known |= {f"{stage.name}.{name}": setting for name, setting in stage.settings.items()}
    return known


def documentation() -> dict[str, str]:
    """One line of help for every setting and group."""
    lines = {path: f"{setting.help} [{setting.accepted()}]" for path, setting in known_settings().items()}
    lines["method"] = RUN_SETTINGS["method"].help + f" [{', '.join(RECIPES)}]"
    return lines | {stage.name: stage.summary for stage in STAGES.values()}
