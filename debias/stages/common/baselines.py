"""What baselines have in common: the second division of inputs in the program that published their figures."""

from debias.settings import Setting
from debias.training.stage import Context

SECOND_DIVISION = Setting(
    False,
    "divide an MLP's inputs by 255 once more, after they are in [0, 1], as LfF's released program does; other networks "
    "take them as they are",
)
_DIVIDED = {"mlp3": "mlp3_divided", "mlp4": "mlp4_divided", "mlp5": "mlp5_divided"}


def network_of(ctx: Context) -> str:
    """The network of the running stage, which has the settings `network` and `second_division`."""
    name = str(ctx.own["network"])
    divided = ctx.own["second_division"] and not ctx.task.train.is_features
    return _DIVIDED.get(name, name) if divided else name
