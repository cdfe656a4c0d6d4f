"""The words in which results are kept: figures, selections, and which read-out is the final model. Imports nothing."""

# Of groups, the cells of the target x bias matrix: in percent, as all figures are. `average` needs no bias labels.
GROUP_FIGURES = ("unbiased", "average", "aligned", "conflicting", "worst")

# Every figure of a read-out. Which of them a run has depends on its data (`training.evaluators`).
FIGURES = (*GROUP_FIGURES, "reweighted", "balanced", "worst_class", "auroc", "average_precision")

# Which epoch's weights a figure is of; `oracle` was chosen on the test set.
SELECTIONS = ("last", "mean", "valid", "valid_pseudo", "valid_unbiased", "valid_overlapping", "oracle")

# Behind a selection: the run was taught by weights that had been chosen on the test set.
TAINT = "_of_oracle_teacher"

# How images of any shape become squares: the middle, stretched, or whole with black bars.
FRAMINGS = ("crop", "stretch", "pad")

# The read-out that is the final model in records that do not say: the first of these that a run has.
FINAL_READ_OUTS = ("target", "model", "shallow", "poe")

# Data sets that are read from their authors' files, and the one that is made here by the same generator: figures that
# are published for the one stand beside those of the other.
STANDS_FOR = {"lff_mnist": "colored_mnist", "lff_cifar10": "corrupted_cifar10"}
