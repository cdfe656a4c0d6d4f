"""Garbage is not collected while a program loads its modules: there is none, and looking for it takes a third of that.

To be imported before torch, by a program that calls `loaded` after its last import.
"""

import gc

_BEFORE = gc.isenabled()
gc.disable()


def loaded() -> None:
    """From now on garbage is collected, if it was before, but not looked for among what has been loaded: that stays."""
    gc.freeze()
    if _BEFORE:
        gc.enable()
