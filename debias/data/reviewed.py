"""What the marks of a reviewed.csv mean: the one table that mining, `labels` and the page that makes it read alike."""

from __future__ import annotations

# What the page can say of an image, in the order of its keys.
CONFLICTING, WRONG_LABEL, FINE, UNSURE, DROP = MARKS = ("conflicting", "wrong label", "fine", "unsure", "drop")
# The column of marks, by which such a table is told from a suspects.csv, and that of the class before a correction.
MARK, WAS = "mark", "was"


def suspect_by(mark: str, flag: bool) -> bool:
    """Whether an image counts as conflicting: as its mark says, else as the miner flagged it.

    An image with a wrong label is no example of its class, so it must not be weighted up.
    """
    if mark == CONFLICTING:
        return True
    return flag and mark in ("", UNSURE)


def left_out(mark: str, was: str) -> bool:
    """Whether an image is left out of the data: it is marked drop, or its label is wrong and no other class is given.

    was : the class it had before the class in the table was corrected; empty where that was not done
    """
    return mark == DROP or (mark == WRONG_LABEL and not was)
