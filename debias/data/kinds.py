"""The kinds of data sets: which settings they have, and what is usual on them: networks, sizes, budgets.

A value belongs here when papers of the data use it whatever the method; what a method sets is in its recipe.
"""

from debias.data.spec import Kind

# A few epochs of a small network need a stronger pull than the 80 of EnD's paper.
_QUICK_END = {"end.alpha": 1.0, "end.beta": 10.0}

# DCWP's miner on photographs and on CIFAR-10: Adam without decay.
_MINING = {
    "mine_gce.optimiser": "adam",
    "mine_gce.learning_rate": 1e-3,
    "mine_gce.weight_decay": 0.0,
    "mine_gce.decay_rounds": 1000,
    "mine_gce.evaluate_every": 500,
}

# Digits or garments, each class in a colour of its own (LfF, DeNetDM).
COLORED = Kind("colored", settings=("severity", "placement"))

# White digits on a coloured background (EnD).
BIASED = Kind(
    "biased",
    settings=("n_confusing_labels", "validation"),
    defaults={"network": "end_cnn", "skew": 0.003, "valid_fraction": 0.1},
    quick={
        "network": "end_cnn_small",
        "rebias.network": "rebias_cnn_small",
        "rebias.biased": "rebias_cnn_1x1_small",
        **_QUICK_END,
    },
)

# Colours near the one a class is tied to (LNTL).
JITTER = Kind(
    "jitter",
    settings=("variance", "palette"),
    defaults={
        "network": "convnet",
        "skew": 0.0,
        "pretrain.batch_size": 128,
        "pretrain.optimiser": "sgd",
        "pretrain.learning_rate": 1e-2,
        "pretrain.weight_decay": 5e-4,
        "pretrain.decay_every": 40,
    },
)

# A grey image and a colour beside it (functional Fisher).
BIMODAL = Kind(
    "bimodal",
    settings=("colour_std",),
    defaults={
        "network": "lenet",
        "skew": 0.0,
        "valid_fraction": 0.2,
        "pretrain.batch_size": 128,
        "pretrain.epochs": 10,
    },
)

# CIFAR-10 under corruptions (LfF, DisEnt, DeNetDM, DCWP).
CIFAR = Kind(
    "cifar",
    defaults={
        "network": "resnet18_imagenet",
        "pretrain.batch_size": 256,
        "group_dro.batch_size": 256,
        "bias_balanced.batch_size": 256,
        "branches.shallow": "shallow_cifar",
        "branches.deep": "resnet20",
        "branches.batch_size": 256,
        "distill.network": "resnet18_imagenet_64",
        "distill.epochs": 200,
        "distill.batch_size": 256,
        "distill.learning_rate": 1e-4,
        **_MINING,
        # 10,000 steps of 256 of 50,000 images.
        "mine_ensemble.epochs": 51,
        "prune.sparsity_weight": 1e-9,
        "finetune.learning_rate": 5e-4,
    },
    quick={"network": "resnet20", "distill.network": "resnet20", **_QUICK_END},
)

# Files of photographs (BFFHQ, CelebA, BAR), a user's own among them.
PHOTOGRAPHS = Kind(
    "photographs",
    settings=(
        "image_size", "bad_files", "duplicates", "own_valid", "streaming", "similar", "features", "feature_views",
    ),
    defaults={
        "network": "resnet18_imagenet",
        "image_size": 224,
        "pretrain.learning_rate": 1e-4,
        "branches.shallow": "shallow_faces",
        "branches.deep": "resnet18",
        "branches.epochs": 10,
        "branches.weight_decay": 0.0,
        "distill.network": "resnet18_imagenet",
        "distill.learning_rate": 1e-4,
        "distill.dist_weight": 0.0,
        **_MINING,
        "mine_gce.batch_size": 64,
        "prune.batch_size": 64,
        "prune.sparsity_weight": 1e-9,
        "finetune.batch_size": 64,
        "finetune.learning_rate": 5e-4,
        # The skew of photographs is not the one that DCWP's table of up-weights is for: its script for BFFHQ.
        "finetune.upweight": 80.0,
    },
    quick={"network": "resnet18", "distill.network": "resnet18", **_QUICK_END},
)  # fmt: skip

# Features of a pretrained network in place of photographs: an epoch takes a fraction of a second, so budgets are those
# under which training has converged. What is linear needs a strong decay: there are about as many values of an image as
# there are images, and each conflicting one would be known by heart (docs/results.md).
FEATURES = Kind(
    "features",
    settings=PHOTOGRAPHS.settings,
    defaults={
        "network": "linear",
        "image_size": 128,
        "pretrain.epochs": 30,
        "pretrain.weight_decay": 0.1,
        "mine_gce.network": "linear_early",
        "mine_gce.optimiser": "adam",
        "mine_gce.learning_rate": 1e-3,
        "mine_gce.weight_decay": 0.3,
        "mine_gce.q": 0.0,
        "mine_gce.epochs": 60,
        "mine_gce.decay_rounds": 50,
        "mine_ensemble.epochs": 20,
        "mine_ensemble.weight_decay": 0.3,
        "bias_balanced.epochs": 40,
        "bias_balanced.weight_decay": 1.0,
        "moved.epochs": 30,
        "moved.weight_decay": 1.0,
        "group_dro.epochs": 30,
        "group_dro.weight_decay": 1.0,
        "end.epochs": 30,
        "end.weight_decay": 0.3,
        "lff.epochs": 30,
        "lff.weight_decay": 0.3,
        "lc.epochs": 30,
        "lc.ramp_epochs": 15,
        "lc.weight_decay": 0.3,
        "fisher.epochs": 30,
        "prune.steps": 0,
        "prune.epochs": 10,
        "prune.batch_size": 256,
        "finetune.steps": 0,
        "finetune.epochs": 20,
        "finetune.learning_rate": 1e-3,
        "finetune.upweight": 50.0,
        "finetune.weight_decay": 1.0,
        "branches.epochs": 10,
        "distill.epochs": 20,
    },
)

# Of stages that train the last block of a pretrained network in place of a linear one on features: it has weights
# already, and a hundred times as many.
LAST_BLOCK = {"epochs": 10, "learning_rate": 3e-4, "weight_decay": 1e-3}

# Small images in files, made beforehand (DisEnt's Colored MNIST).
DIGIT_FILES = Kind("digit_files", settings=("bad_files", "duplicates", "own_valid", "streaming", "similar"))

KINDS = {kind.name: kind for kind in (COLORED, BIASED, JITTER, BIMODAL, CIFAR, PHOTOGRAPHS, FEATURES, DIGIT_FILES)}
