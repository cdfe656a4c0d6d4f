"""What a setting is: its default, its meaning, what it may be, what it decides, and where it is searched."""

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from debias.errors import UserError

# Whole numbers without a bound of their own: what programs in C count with.
MOST = 2**31 - 1

Role = Literal["data", "method", "machine", "view"]
# Settings of these decide a run's figures.
DECIDING: tuple[Role, ...] = ("data", "method")


@dataclass(frozen=True)
class Setting:
    """One value a user may set.

    Parameters
    ----------
    default
        Its value when nothing says otherwise; its type is the type that is accepted.
    help
        One line for `print_config` and `help`.
    low, high
        Inclusive bounds for numbers.
    choices
        The values allowed, when they can be listed.
    optional
        Whether None is allowed as well.
    kind
        The accepted type, when the default is None.
    quick
        The default under the named config `quick`, whatever the data set and the method.
    role
        What it decides: `data`, the images; `method`, what is computed from them; `machine`, where and how fast;
        `view`, what is shown, read or written beside. The first two decide a run's figures, and go into keys, columns
        of results and sweeps; the others do not.
    told
        Whether a title names it where it is not at its default, of settings of the data.
    follows
        Name under which a data set brings a default for this setting of every stage; None: only under its own path.
    search
        Where a hyper-parameter search looks: ("log", low, high), ("uniform", low, high) or ("choice", (…)).
    """

    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] | None = None
    optional: bool = False
    kind: type | None = None
    quick: Any = None
    role: Role = "method"
    told: bool = False
    follows: str | None = None
    search: tuple[Any, ...] | None = None

    def check(self, name: str, value: Any) -> Any:
        """`value` in the setting's own type, or a UserError that says what is accepted."""
        if value is None:
            if self.optional:
                return None
            raise UserError(f"setting {name}: None is not accepted; {self.accepted()}")
        kind = self.kind or type(self.default)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if kind in (bool, int, float, str) and (type(value) is not kind):
            raise UserError(f"setting {name}: {value!r} is not accepted; {self.accepted()}")
        if kind is str and ("\0" in value or not value.strip()):
            raise UserError(f"setting {name}: {value!r} is not accepted; leave it out, or give {self.accepted()}")
        if self.choices is not None and value not in self.choices:
            near = nearest(str(value), [str(choice) for choice in self.choices])
            raise UserError(f"setting {name}: {value!r} is not accepted; {self.accepted()}{near}")
        if kind in (int, float):
            high = MOST if self.high is None and kind is int else self.high
            above = self.low is None or value >= self.low
            below = high is None or value <= high
            # NaN compares with nothing, so it is refused here too
            if not (above and below and abs(value) < math.inf):
                raise UserError(f"setting {name}: {value!r} is out of range; {self.accepted()}")
        return value

    def accepted(self) -> str:
        """What is accepted, in words."""
        if self.choices is not None:
            return "one of " + ", ".join(str(choice) for choice in self.choices)
        kind = self.kind or type(self.default)
        noun = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}.get(kind, kind.__name__)
        if self.low is not None and self.high is not None:
            noun += f" from {_plain(self.low)} to {_plain(self.high)}"
        elif self.low is not None:
            noun += f" of at least {_plain(self.low)}"
        return noun + (" or None" if self.optional else "")


def nearest(word: str, known: Iterable[str]) -> str:
    """A suffix for an error line that names the nearest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _plain(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else f"{bound:g}"
