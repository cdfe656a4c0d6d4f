"""A sweep that is run in seconds: 2 methods x 2 skews x 2 seeds on the embedded digits."""

SMALL = [
    "colored_digits", "method=erm,depth_balanced", "skew=0.02,0.05", "seed=1,2", "limit=600", "threads=1",
    "progress=False", "pretrain.epochs=1", "branches.epochs=1", "mine_depth.epochs=1", "bias_balanced.epochs=1",
]  # fmt: skip

# The same for a search: held-out images, and epochs enough to give a trial up.
SEARCH = [
    "colored_digits", "erm", "limit=600", "pretrain.epochs=4", "threads=1", "progress=False", "valid_fraction=0.2",
]  # fmt: skip
