"""Which settings of a run made its data, and which decided what was computed from it: as the run's record says."""

from collections.abc import Mapping
from typing import Any

from debias.tracking.folders import RunRecord

# Of every run there is; records that have no other settings need not ask what is known of them.
_PLAIN = {"dataset": "data", "skew": "data", "method": "method", "seed": "method"}


def roles_of(record: RunRecord) -> dict[str, str]:
    """By name of a run's setting, of those that decide its figures: `data`, or `method`."""
    said: Mapping[str, Any] = record.info.get("settings", {})
    if said:
        return {"dataset": "data"} | {name: role for role in ("data", "method") for name in said.get(role, ())}
    names = [name for name, value in record.config.items() if not isinstance(value, Mapping)]
    if set(names) <= set(_PLAIN):
        return {name: _PLAIN[name] for name in names}
    # Only for older records: it loads all that training needs.
    from debias.catalogue import role_under

    roles = {name: role_under(name, str(record.config.get("dataset", ""))) for name in names}
    return {name: role for name, role in roles.items() if role is not None}


def told_of(record: RunRecord) -> set[str]:
    """Names of settings of the data that a title names where they are not plainly off."""
    if "settings" in record.info:
        return set(record.info["settings"].get("told", ()))
    if set(record.config) <= set(_PLAIN):
        return set()
    from debias.catalogue import RUN_SETTINGS

    return {name for name in record.config if name in RUN_SETTINGS and RUN_SETTINGS[name].told}
