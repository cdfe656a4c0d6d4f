"""Find the shortcut that a classifier has learned, and train one that does not rely on it.

`Study` is the whole way from Python; `debias`, `debias-sweep` and `debias-results` are the command lines.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from debias.errors import UserError
    from debias.estimator import Finding, Study

__all__ = ["Finding", "Study", "UserError"]


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for: tables of results need neither torch nor Sacred.
    if name in ("Finding", "Study"):
        from debias import estimator

        return getattr(estimator, name)
    if name == "UserError":
        from debias.errors import UserError

        return UserError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
