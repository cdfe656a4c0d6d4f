"""A sweep that is run in seconds: 2 methods x 2 skews x 2 seeds on the embedded digits."""

SMALL = [
    "colored_digits", "method=erm,depth_balanced", "skew=0.02,0.05", "seed=1,2", "limit=600", "threads=1",
    "progress=False", "pretrain.epochs=1", "branches.epochs=1", "mine_depth.epochs=1", "bias_balanced.epochs=1",
]  # fmt: skip
