"""What a setting is: its default, its meaning, what it may be, and where it is searched, on one line."""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from errors import UserError

# Whole numbers without a bound of their own: what programs in C count with.
MOST = 2**31 - 1


@dataclass(frozen=True)
class Setting:
    """One value a person may set.

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
        The default under the named config `quick`; or, as in `at`, those of some data sets and methods.
    at
        Defaults that hold for a data set, a method, or both: keys are a name or a pair (method, data set); the most
        specific one wins, a method before a data set.
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
    at: Mapping[Any, Any] = field(default_factory=dict)
    search: tuple[Any, ...] | None = None

    def default_for(self, method: Any, dataset: str, quick: bool = False) -> Any:
        """The default under a method, a data set and a budget."""
        name = method if isinstance(method, str) else None
        tables = [self.at]
        if quick and self.quick is not None:
            if not isinstance(self.quick, Mapping):
                return self.quick
            tables.insert(0, self.quick)
        for table in tables:
            for key in ((name, dataset), name, dataset):
                if key in table:
                    return table[key]
        return self.default

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


# Data sets of one kind are built from each of these: biased_mnist, biased_fashion, biased_digits.
SOURCES = ("mnist", "fashion", "digits")


def on_sources(value: Any, *kinds: str) -> dict[str, Any]:
    """Entries of `Setting.at` that give the data sets of some kinds one default, whatever their source."""
    entries = {f"{kind}_{source}": value for kind in kinds for source in SOURCES}
    # The published files of one kind are a data set of their own.
    return entries | ({"jitter_released": value} if "jitter" in kinds else {})


def nearest(word: str, known: Iterable[str]) -> str:
    """A suffix for an error line that names the nearest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _plain(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else f"{bound:g}"
