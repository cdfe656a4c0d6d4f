"""What marks mean."""

import pytest

from debias.data.reviewed import MARKS, left_out, suspect_by


@pytest.mark.parametrize(
    ("mark", "unflagged", "flagged"),
    [
        ("", False, True),
        ("conflicting", True, True),
        ("wrong label", False, False),
        ("fine", False, False),
        ("unsure", False, True),
        ("drop", False, False),
    ],
)
def test_a_mark_goes_before_the_flag(mark, unflagged, flagged):
    assert (suspect_by(mark, False), suspect_by(mark, True)) == (unflagged, flagged)


def test_which_are_left_out():
    assert {mark for mark in ("", *MARKS) if left_out(mark, "")} == {"drop", "wrong label"}
    assert {mark for mark in ("", *MARKS) if left_out(mark, "cow")} == {"drop"}
