"""Garbage is not collected while a program loads its modules: there is none, and looking for it takes a third of that.

To be imported before torch, by a program that calls `loaded` after its last import.
"""

import gc

gc.disable()


def loaded() -> None:
    """From now on garbage is collected, but not looked for among what has been loaded, which stays."""
    gc.freeze()
    gc.enable()
