"""Bring runs from their folders into MongoDB, and read those that are there."""

import sys
from collections.abc import Iterator
from pathlib import Path

from pymongo.errors import PyMongoError
from tqdm.auto import tqdm

from debias.errors import UserError
from debias.tracking.folders import RunRecord, is_run_name, make_record
from debias.tracking.mongo.address import Address, reason
from debias.tracking.mongo.mirror import Mirror


def bring_all(address: Address, store: Path, file_limit: int, progress: bool = True) -> tuple[int, int, list[str]]:
    """Bring every run of a store; gives how many there are, how many had something new, and the damaged folders.

    Raises
    ------
    UserError
        When there is no store, or the server cannot be used or is lost.
    """
    if not store.is_dir():
        raise UserError(f"store={store}: there is no such folder, so nothing to bring")
    folders = sorted((path for path in store.iterdir() if is_run_name(path.name) and path.is_dir()), key=_number)
    new, damaged = 0, []
    with address.client() as client:
        mirror = Mirror(client[address.database], store, file_limit)
        try:
            client.admin.command("ping")
            for folder in tqdm(folders, desc="sync", unit="run", disable=not progress, file=sys.__stderr__):
                try:
                    new += mirror.bring(folder)[1]
                except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                    if isinstance(error, PyMongoError):
                        raise
                    damaged.append(str(folder))
        except PyMongoError as error:
            raise UserError(f"MongoDB at {address}: {reason(error)}; nothing is lost, sync again later") from None
    return len(folders) - len(damaged), new, damaged


def read_database(address: Address) -> Iterator[RunRecord]:
    """The runs of a database, oldest first; what is not a run of this program is skipped.

    Raises
    ------
    UserError
        When the server cannot be used.
    """
    wanted = ("command", "status", "config", "info", "meta", "host", "start_time", "heartbeat")
    try:
        with address.client() as client:
            found = client[address.database]["runs"].find({}, dict.fromkeys((*wanted, "uid"), 1)).sort("_id", 1)
            for run in found:
                try:
                    if "uid" in run:
                        run["meta"] = {**(run.get("meta") or {}), "uid": run["uid"]}
                    place = Path(str(address).partition("://")[2]) / str(run["_id"])
                    record = make_record(place, run, run["config"], run.get("info") or {})
                except (KeyError, TypeError, AttributeError, ValueError):
                    continue
                if record is not None:
                    yield record
    except PyMongoError as error:
        raise UserError(f"MongoDB at {address}: {reason(error)}") from None


def _number(path: Path) -> int:
    return int(path.name)
