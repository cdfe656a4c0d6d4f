"""Pictures of runs: curves, matrices, images, suspects, heat. Loaded when the first one is drawn.

Matplotlib takes a second to load, which a command that draws nothing, or nothing yet, does not wait for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from debias.tracking.pictures.heat import plot_heat as plot_heat
    from debias.tracking.pictures.information import plot_information as plot_information
    from debias.tracking.pictures.matrices import plot_confusion as plot_confusion
    from debias.tracking.pictures.matrices import plot_matrix as plot_matrix
    from debias.tracking.pictures.plots import plot_curves as plot_curves
    from debias.tracking.pictures.plots import plot_images as plot_images
    from debias.tracking.pictures.suspects import write_suspects as write_suspects
    from debias.tracking.pictures.transfer import plot_moves as plot_moves
    from debias.tracking.pictures.transfer import plot_places as plot_places
    from debias.tracking.pictures.transfer import plot_rates as plot_rates

_WHERE = {
    "plot_confusion": "matrices",
    "plot_curves": "plots",
    "plot_heat": "heat",
    "plot_images": "plots",
    "plot_information": "information",
    "plot_matrix": "matrices",
    "plot_moves": "transfer",
    "plot_places": "transfer",
    "plot_rates": "transfer",
    "write_suspects": "suspects",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
