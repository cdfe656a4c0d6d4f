"""The methods: of each, its stages, what it sets in them, and on which data otherwise, from top to bottom.

A new method is its files and an entry here. What is set for a method holds on every data set, unless `on` has the kind
of data (`data.kinds`) or the data set itself. Times are of Colored MNIST on one quiet core, unless they say otherwise;
expected figures are in docs/results.md.
"""

from debias.stages.recipe import On, Recipe


def command_of(method: str) -> str:
    """The command line that trains a method as it was published, or as it is measured here."""
    return f"python main.py with {RECIPES[method].data} {method}"


# On pseudo labels the network is the shallow branch's: a deep one turns back to the bias. The few conflicting images
# are soon learnt by heart, so training is short. The deep branch is read best early on.
_DEPTH = {"branches.epochs": 4}
_ON_PSEUDO = {
    "bias_balanced": {"bias_balanced.network": "mlp3", "bias_balanced.epochs": 8, **_DEPTH},
    "group_dro": {"group_dro.network": "mlp3", "group_dro.epochs": 8, **_DEPTH},
}


def _on_pseudo(stage: str) -> dict[str, On]:
    images = On(values={f"{stage}.network": "resnet18_imagenet"})
    return {"cifar": images, "photographs": images, "colored": On(values={f"{stage}.batch_size": 256})}


# The classifier that DCWP and MRM prune, by its scripts.
_PRUNED = {
    "pretrain.network": "cnn",
    "pretrain.steps": 10_000,
    "pretrain.batch_size": 256,
    "pretrain.learning_rate": 1e-2,
    "prune.sampling": "reference",
}
_PRUNED_RESNET = {"pretrain.network": "resnet18_imagenet", "pretrain.learning_rate": 1e-3}

RECIPES: dict[str, Recipe] = {
    "erm": Recipe(("pretrain",), "plain cross-entropy, the baseline", cost="9 minutes on a busy core"),
    "denetdm": Recipe(
        ("branches", "distill"),
        "DeNetDM: depth-modulated branches, then distillation",
        paper="Vadakkeeveetil Sreelatha et al., NeurIPS 2024",
        link="https://arxiv.org/abs/2403.19863",
        data="colored_mnist skewed3 severity4 reference",
        cost="7 minutes; 20 runs on an H200 together 134 s",
        expected="Colored MNIST, oracle: 93.4 at 5 %, 84.0 at 1 %",
    ),
    "dcwp": Recipe(
        ("pretrain", "mine_gce", "prune", "finetune"),
        "DCWP: mine, prune, fine-tune what is left",
        paper="Park et al., CVPR 2023",
        link="https://arxiv.org/abs/2210.05247",
        data="colored_mnist skewed1 severity4",
        cost="28 minutes on two cores; 57 s on an H200 beside two other runs",
        expected="Colored MNIST, oracle: 97.7 at 5 %, 95.1 at 1 %",
        values={
            **_PRUNED,
            "pretrain.beta2": 0.99,
            "mine_gce.network": "cnn",
            "mine_gce.steps": 2000,
            "mine_gce.beta2": 0.99,
            "mine_ensemble.beta2": 0.99,
            "finetune.beta2": 0.99,
        },
        on={
            "cifar": On(("pretrain", "mine_ensemble", "prune", "finetune"), _PRUNED_RESNET),
            "photographs": On(
                values={
                    **_PRUNED_RESNET,
                    "pretrain.batch_size": 64,
                    "mine_gce.network": "resnet18_imagenet",
                    "mine_gce.steps": 10_000,
                }
            ),
            # A layer to prune; pretrained for no more steps than elsewhere.
            "features": On(values={"pretrain.network": "mlp_features", "pretrain.steps": 0}),
            "bffhq": On(values={"image_size": 128, "augment": "flip"}),
            "celeba": On(values={"pretrain.batch_size": 128, "pretrain.learning_rate": 1e-4}),
        },
    ),
    "mrm": Recipe(
        ("pretrain", "mine_none", "prune", "finetune"),
        "pruning without suspects, from first weights (MRM)",
        paper="Zhang et al., ICML 2021",
        link="https://arxiv.org/abs/2106.02890",
        cost="as dcwp",
        values={
            **_PRUNED,
            "prune.upweight": 1.0,
            "prune.contrastive_weight": 0.0,
            "finetune.start": "initial",
            "finetune.upweight": 1.0,
            "finetune.contrastive_weight": 0.0,
            "finetune.steps": 10_000,
            "finetune.evaluate_every": 500,
            "finetune.learning_rate": 1e-2,
        },
        on={
            "cifar": On(values={**_PRUNED_RESNET, "finetune.steps": 20_000, "finetune.learning_rate": 1e-3}),
            "photographs": On(
                values={
                    **_PRUNED_RESNET,
                    "pretrain.batch_size": 64,
                    "finetune.steps": 20_000,
                    "finetune.learning_rate": 1e-3,
                }
            ),
            "features": On(
                values={
                    "pretrain.network": "mlp_features",
                    "pretrain.steps": 0,
                    "finetune.steps": 0,
                    "finetune.upweight": 1.0,
                }
            ),
            "bffhq": On(values={"image_size": 128, "augment": "flip"}),
            "celeba": On(values={"pretrain.batch_size": 128, "pretrain.learning_rate": 1e-4}),
        },
    ),
    "jtt": Recipe(
        ("pretrain", "mine_wrong", "finetune"),
        "Just Train Twice: up-weigh what ERM gets wrong",
        paper="Liu et al., ICML 2021",
        link="https://arxiv.org/abs/2107.09044",
        cost="5 minutes on a busy core",
        values={
            "finetune.start": "initial",
            "finetune.upweight": 50.0,
            "finetune.contrastive_weight": 0.0,
            "finetune.epochs": 100,
            "finetune.steps": 0,
            "finetune.batch_size": 64,
        },
        # After a few passes of Colored MNIST the first network knows conflicting images by heart, and nothing is mined:
        # at 5 % recall is 30 % after one pass, and 0 after 100. Where it stops needs no labels.
        on={
            "colored": On(values={"pretrain.epochs": 1}),
            "cifar": On(values={"finetune.batch_size": 256}),
            "features": On(values={"pretrain.weight_decay": 0.3, "finetune.epochs": 20}),
        },
    ),
    "lff": Recipe(
        ("lff",),
        "Learning from Failure",
        paper="Nam et al., NeurIPS 2020",
        link="https://arxiv.org/abs/2007.02561",
        cost="7 minutes on a busy core",
        expected="Colored MNIST as published (lff.network=mlp4 lff.second_division=True), oracle: 74.6 at 1 % (n = 1)",
    ),
    "dfa": Recipe(
        ("dfa",),
        "DFA (DisEnt): encoders of target and bias apart, bias features exchanged",
        paper="Lee et al., NeurIPS 2021",
        link="https://arxiv.org/abs/2107.01372",
        cost="10 minutes on a busy core",
        expected="Colored MNIST, oracle: 82.0 at 1 % (n = 1)",
        on={
            "cifar": On(values={"dfa.network": "resnet18"}),
            "photographs": On(
                values={
                    "dfa.network": "resnet18",
                    "dfa.batch_size": 64,
                    "dfa.learning_rate": 1e-4,
                    "dfa.bias_weight": 2.0,
                    "dfa.swap_bias_weight": 2.0,
                    "dfa.swap_weight": 0.1,
                }
            ),
            "features": On(
                values={
                    "dfa.network": "mlp_features",
                    "dfa.weight_decay": 0.3,
                    "dfa.epochs": 30,
                    "dfa.swap_after": 10,
                    "dfa.decay_every": 0,
                }
            ),
        },
    ),
    "lc": Recipe(
        ("lc",),
        "LC: logit correction by a biased network, with group mixup",
        paper="Liu et al., ICLR 2023",
        link="https://arxiv.org/abs/2212.01433",
        cost="7 minutes on a busy core",
        expected="Colored MNIST, oracle: 79.4 at 1 % (n = 1)",
    ),
    "selecmix": Recipe(
        ("selecmix",),
        "SelecMix: images mixed with those that contradict the bias, found by a contrastive network",
        paper="Hwang et al., NeurIPS 2022",
        link="https://arxiv.org/abs/2211.02291",
        cost="7 minutes on a busy core",
        expected="Colored MNIST, oracle: 75.8 at 1 % (n = 1)",
        on={
            "photographs": On(values={"selecmix.batch_size": 64, "selecmix.learning_rate": 1e-4}),
            # A linear network has no features of its own to choose by.
            "features": On(
                values={"selecmix.network": "mlp_features", "selecmix.weight_decay": 0.3, "selecmix.epochs": 30}
            ),
        },
    ),
    "rebias": Recipe(
        ("rebias",),
        "ReBias: features independent, by HSIC, of those of a network that sees single pixels",
        paper="Bahng et al., ICML 2020",
        link="https://arxiv.org/abs/1910.02806",
        data="biased_mnist rho997",
        cost="hours on a CPU",
        expected="Biased MNIST, published: 22.7, 64.2, 76.0 and 88.1 at rho .999, .997, .995 and .990",
        values={"rebias.biased": "rebias_cnn_1x1_small"},
        on={
            # Its paper's own data and networks.
            "biased": On(values={"rebias.network": "rebias_cnn", "rebias.biased": "rebias_cnn_1x1"}),
            "photographs": On(
                values={
                    "rebias.biased": "rebias_cnn_small",
                    "rebias.batch_size": 64,
                    "rebias.learning_rate": 1e-4,
                }
            ),
        },
    ),
    "lntl": Recipe(
        ("lntl",),
        "Learning Not to Learn: features that do not reveal the colour",
        paper="Kim et al., CVPR 2019",
        link="https://arxiv.org/abs/1812.10352",
        data="jitter_mnist var020",
        cost="hours on a CPU; on an H200 beside two other runs 41 of 100 epochs in 147 s",
    ),
    "lntl_pretrained": Recipe(
        ("pretrain", "lntl"),
        "Learning Not to Learn from a classifier trained by cross-entropy",
        paper="Kim et al., CVPR 2019",
        link="https://arxiv.org/abs/1812.10352",
        data="jitter_mnist var020",
        cost="hours on a CPU, as lntl",
        values={"lntl.learning_rate": 1e-3},
    ),
    "fisher": Recipe(
        ("fisher",),
        "functional Fisher information: make use of every modality",
        paper="Gat et al., NeurIPS 2020",
        link="https://arxiv.org/abs/2010.10802",
        data="bimodal_mnist",
        cost="4 minutes on a busy core",
        values={"fisher.network": "lenet"},
        on={
            "cifar": On(values={"fisher.network": "resnet18_imagenet"}),
            "photographs": On(values={"fisher.network": "resnet18_imagenet"}),
        },
    ),
    "group_dro": Recipe(
        ("true_bias", "group_dro"),
        "GroupDRO on true bias labels",
        paper="Sagawa et al., ICLR 2020",
        link="https://arxiv.org/abs/1911.08731",
        cost="6 minutes on a busy core",
    ),
    "bias_balanced": Recipe(
        ("true_bias", "bias_balanced"),
        "bias-balanced training on true bias labels",
        paper="Hong and Yang, NeurIPS 2021",
        cost="1 minute on a busy core",
    ),
    "end": Recipe(
        ("true_bias", "end"),
        "EnD: disentangle bias from features, on true bias labels",
        paper="Tartaglione et al., CVPR 2021",
        link="https://arxiv.org/abs/2103.02023",
        data="biased_mnist rho997",
        cost="hours on a CPU; on an H200 beside two other runs 20 of 80 epochs in 147 s",
    ),
    "gce_balanced": Recipe(
        ("mine_gce", "bias_balanced"),
        "a network biased on purpose gives pseudo labels for bias-balanced training; for features",
        cost="seconds on features",
    ),
    "afr": Recipe(
        ("pretrain", "afr"),
        "AFR: the last layer again, on held-out images that the network doubts",
        paper="Qiu et al., ICML 2023",
        link="https://arxiv.org/abs/2306.11074",
        cost="its first network's; the last layer takes seconds",
        values={"valid_fraction": 0.2},
        on={
            "biased": On(values={"validation": "biased"}),
            "celeba": On(values={"afr.gamma": 1.44, "afr.l2": 1e-3, "afr.epochs": 20, "afr.learning_rate": 2e-2}),
        },
    ),
    "dfr": Recipe(
        ("pretrain", "dfr"),
        "DFR: the last layer afresh, on held-out images of balanced groups, with true bias labels",
        paper="Kirichenko et al., ICLR 2023",
        link="https://arxiv.org/abs/2204.02937",
        cost="its first network's; the last layer takes seconds",
        values={"valid_fraction": 0.2},
    ),
    "gce_resample": Recipe(
        ("mine_gce", "resample"),
        "a network biased on purpose gives pseudo labels; images are drawn so that target and label are independent",
        cost="16 minutes on a busy core; seconds on features",
        on={
            # DCWP's network.
            "colored": On(values={"resample.network": "cnn", "resample.learning_rate": 1e-2}),
            "features": On(values={"resample.weight_decay": 1.0, "resample.epochs": 40}),
        },
    ),
    "depth_balanced": Recipe(
        ("branches", "mine_depth", "bias_balanced"),
        "DeNetDM's branches give pseudo labels for bias-balanced training",
        cost="20 seconds of training",
        expected="Colored MNIST, last: 83.5 at 1 %",
        values=_ON_PSEUDO["bias_balanced"],
        on=_on_pseudo("bias_balanced"),
    ),
    "depth_dro": Recipe(
        ("branches", "mine_depth", "group_dro"),
        "DeNetDM's branches give pseudo labels for GroupDRO",
        cost="20 seconds of training",
        expected="Colored MNIST, last: 63.2 at 1 %",
        values=_ON_PSEUDO["group_dro"],
        on=_on_pseudo("group_dro"),
    ),
    "depth_end": Recipe(
        ("branches", "mine_depth", "end"),
        "DeNetDM's branches give pseudo labels for EnD",
        cost="5 minutes on a busy core",
        expected="Colored MNIST, last: 58.4 at 1 % (one seed)",
    ),
    "depth_prune": Recipe(
        ("branches", "mine_depth", "prune", "finetune"),
        "DCWP's pruning of DeNetDM's shallow branch on depth-mined suspects",
        cost="2 minutes on a busy core",
        expected="Colored MNIST, last: 78.4 at 1 %",
        values=_DEPTH,
    ),
    "depth_transfer": Recipe(
        ("branches", "mine_depth", "transfer"),
        "find what moves the shortcut of DeNetDM's deep branch, and train with it",
        cost="1 to 2 minutes; 2 to 4 on Biased MNIST",
        expected="Colored MNIST, last: 97.1 to 97.2 at .5, 1, 2 and 5 %; Biased MNIST: 96 from rho .99 to .999",
        values={
            **_DEPTH,
            # The deep branch of about one start in ten takes up the target as well: `independent` tells. Of few
            # conflicting images the shallow branch corrects little by then, parted or not.
            "branches.restarts": 2,
            "branches.restart_after": 4,
            "branches.restart_below": 0.0,
            "branches.restart_dependent": 92.0,
            "transfer.network": "mlp3",
            "transfer.epochs": 8,
        },
        on={
            **dict.fromkeys(
                ("cifar", "photographs"), On(values={"branches.restarts": 0, "transfer.network": "resnet18_imagenet"})
            ),
            # Where most of an image has its class's colour, or no image conflicts, the deep branch learns nothing: the
            # shallow one has said everything before it begins.
            **dict.fromkeys(
                ("biased", "jitter"),
                On(
                    stages=("shortcut", "transfer"),
                    values={"shortcut.epochs": 2, "shortcut.batch_size": 128, "transfer.epochs": 12},
                ),
            ),
        },
    ),
    "gce_transfer": Recipe(
        ("mine_gce", "transfer"),
        "the same with a network biased on purpose by GCE",
        cost="1 to 2 minutes",
        expected="Colored MNIST, last: 96.8 at 1 % (one seed)",
    ),
    "property_moved": Recipe(
        ("mine_property", "moved"),
        "train on images that are given, of others, the property that alone tells the class",
        data="own_images data_dir=photos",
        cost="half a minute on features of 2,000 photographs, which are embedded again with the property of others",
        values={"moved.network": "mlp3"},
        on={
            **dict.fromkeys(("cifar", "photographs"), On(values={"moved.network": "resnet18_imagenet"})),
            "features": On(values={"moved.network": "linear"}),
        },
    ),
    "property_balanced": Recipe(
        ("mine_property", "bias_balanced"),
        "the property that alone tells the class gives pseudo labels for bias-balanced training",
        data="own_images data_dir=photos",
        cost="seconds on features",
    ),
    "erm_operator": Recipe(
        ("augmented",),
        "plain cross-entropy with an operator that is named or drawn, not chosen",
        cost="1 minute on a busy core",
        expected="Colored MNIST, last: 97.1 at 1 % with channel_means",
        values={"augmented.network": "mlp3", "augmented.epochs": 8},
        on=dict.fromkeys(("cifar", "photographs"), On(values={"augmented.network": "resnet18_imagenet"})),
    ),
}
