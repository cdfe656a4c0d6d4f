"""A run folder as Sacred's MongoDB record: brought again and again, it is there once, with what the folder holds now.

Records are in the form of Sacred's own observer, which Omniboard reads. Sacred's observer cannot be used for it: it
appends, so that what is brought twice is there twice, and what a lost server missed is lost.
"""

import contextlib
import json
import math
import mimetypes
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from gridfs import GridFS
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from debias.digests import digest_of, digest_of_file
from debias.rawfiles import read_regular
from debias.tracking.curves import final_curves
from debias.tracking.folders import is_run_name, read_json, run_uid

Document = dict[str, Any]


class Mirror:
    """Brings the runs of one store into one database.

    Parameters
    ----------
    database
        Where they go: the collections runs, metrics and fs.
    store
        The folder of the run folders.
    file_limit
        Bytes. Larger files stay where they are; the record names their path, size and digest.
    """

    def __init__(self, database: Database[Document], store: Path, file_limit: int) -> None:
        self.runs: Collection[Document] = database["runs"]
        self.metrics: Collection[Document] = database["metrics"]
        self.files = GridFS(database)
        self.store = store
        self.file_limit = file_limit
        self._digests: dict[tuple[str, int, int], str] = {}
        self._ready = False

    def bring(self, folder: Path) -> tuple[int, bool]:
        """Bring a run's present state; gives its number in the database and whether anything was new.

        Raises
        ------
        OSError, ValueError, KeyError
            The folder is not a whole record, or is being written at this moment: try again.
        pymongo.errors.PyMongoError
            The server is lost; what was brought stays, the rest is brought the next time.
        """
        if not self._ready:
            # Two processes that bring one run at the same time cannot both insert it.
            self.runs.create_index("uid", unique=True, sparse=True)
            self.metrics.create_index([("run_id", 1), ("name", 1)])
            self._ready = True
        # One process at a time: what two of them do not find yet, both would store.
        with _only_one(self.store):
            return self._bring(folder)

    def _bring(self, folder: Path) -> tuple[Any, bool]:
        run, config = _read(folder / "run.json"), _read(folder / "config.json")
        info, metrics = (_read(folder / f"{name}.json", {}) for name in ("info", "metrics"))
        output = _text(folder / "cout.txt")
        state = self._state(folder, run, config, info, metrics, output)
        uid = run_uid(run)
        known = self.runs.find_one({"uid": uid}, {"_id": 1, "state": 1})
        if known is not None and known.get("state") == state:
            return known["_id"], False
        number = known["_id"] if known is not None else self._insert(uid, folder, run, config)
        named = [
            {"name": name, "id": str(self._bring_metric(number, name, m))}
            for name, m in _curves(metrics, info.get("final"))
        ]
        stored, on_disk = self._bring_artifacts(number, folder, run.get("artifacts", []))
        record = _record(run, config)
        record["experiment"] = {**run["experiment"], "sources": self._bring_sources(run["experiment"])}
        record |= {"captured_out": output, "artifacts": stored, "state": state}
        record["info"] = {**info, "metrics": named} | ({"kept_on_disk": on_disk} if on_disk else {})
        # The user may have written a comment there meanwhile.
        del record["meta"]
        # Last, and in one operation: whoever sees a run completed sees all of it.
        self.runs.update_one({"_id": number}, {"$set": _encodable(record)})
        return number, True

    def _insert(self, uid: str, folder: Path, run: Document, config: Document) -> int:
        """A first entry; its number is that of the folder where it is free, and one more than the largest otherwise."""
        record = _encodable(_record(run, config)) | {
            "uid": uid, "status": "RUNNING", "captured_out": "", "info": {}, "artifacts": [],
        }  # fmt: skip
        number = int(folder.name) if is_run_name(folder.name) else 1
        while True:
            try:
                self.runs.insert_one({"_id": number, **record})
                return number
            except DuplicateKeyError:
                known = self.runs.find_one({"uid": uid}, {"_id": 1})
                if known is not None:
                    return known["_id"]
                last = self.runs.find_one({"_id": {"$type": "number"}}, {"_id": 1}, sort=[("_id", -1)])
                number = int(last["_id"]) + 1 if last else 1

    def _bring_metric(self, number: int, name: str, metric: Mapping[str, Any]) -> Any:
        entry = {
            "steps": [int(step) for step in metric["steps"]],
            "values": [float(value) for value in metric["values"]],
            "timestamps": [datetime.fromisoformat(moment) for moment in metric["timestamps"]],
        }
        place = {"run_id": number, "name": name}
        self.metrics.update_one(place, {"$set": entry}, upsert=True)
        known = self.metrics.find_one(place, {"_id": 1})
        assert known is not None
        return known["_id"]

    def _bring_artifacts(self, number: int, folder: Path, names: list[str]) -> tuple[list[Document], list[Document]]:
        stored, on_disk = [], []
        for name in dict.fromkeys(names):
            path = _inside(folder, name)
            if path is None:
                continue
            size, digest = path.stat().st_size, self._digest(path)
            if size > self.file_limit:
                on_disk.append({"name": name, "path": str(path), "bytes": size, "sha256": digest})
            else:
                stored.append(
                    {"name": name, "file_id": self._put(path, digest, f"artifact://{self.runs.name}/{number}/{name}")}
                )
        return stored, on_disk

    def _bring_sources(self, experiment: Mapping[str, Any]) -> list[list[Any]]:
        """A source file that many runs share is stored once."""
        stored = []
        for name, place in experiment.get("sources", []):
            path = _inside(self.store, place)
            if path is not None and path.stat().st_size <= self.file_limit:
                stored.append([name, self._put(path, self._digest(path), f"source://{name}")])
        return stored

    def _put(self, path: Path, digest: str, name: str) -> Any:
        there = self.files.find_one({"filename": name, "metadata.sha256": digest})
        if there is not None:
            return there._id
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        with path.open("rb") as handle:
            return self.files.put(handle, filename=name, content_type=kind, metadata={"sha256": digest})

    def _digest(self, path: Path) -> str:
        about = path.stat()
        key = (str(path), about.st_size, about.st_mtime_ns)
        if key not in self._digests:
            self._digests[key] = digest_of_file(path)
        return self._digests[key]

    def _state(self, folder: Path, run: Document, *parts: Any) -> str:
        """A digest of all that a record is made from: equal, and nothing need be brought."""
        paths = [path for name in run.get("artifacts", []) if (path := _inside(folder, name)) is not None]
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        text = json.dumps([self.file_limit, run, parts, files], sort_keys=True)
        return digest_of([text.encode("utf-8", "surrogatepass")])


@contextlib.contextmanager
def _only_one(store: Path) -> Iterator[None]:
    """Keep other processes from bringing runs of a store; not where the store cannot be written to."""
    lock = FileLock(store / ".mongo.lock")
    try:
        lock.acquire()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _record(run: Document, config: Document) -> Document:
    """The parts of a record that need nothing else to be brought first."""
    record = {name: value for name, value in run.items() if name not in ("experiment", "artifacts")}
    for name in ("start_time", "stop_time", "heartbeat"):
        if record.get(name):
            record[name] = datetime.fromisoformat(record[name])
    experiment = {**run["experiment"], "sources": []}
    meta = run.get("meta") or {}
    return {**record, "meta": meta, "experiment": experiment, "config": config, "format": "MongoObserver-0.7.0"}


def _curves(metrics: Mapping[str, Any], final: Mapping[str, str] | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The metrics of a run and, under names that all methods share, those of its final model."""
    yield from metrics.items()
    for figure, metric in final_curves(metrics, final):
        # These are read in a table, where all decimals of a float hide the figure.
        yield figure, {**metric, "values": [round(value, 2) for value in metric["values"]]}


def _read(path: Path, missing: Document | None = None) -> Document:
    if missing is not None and not path.exists():
        return missing
    value = read_json(path)
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no record")
    return value


def _text(path: Path) -> str:
    return read_regular(path).decode("utf-8", "replace") if path.exists() else ""


def _inside(folder: Path, name: str) -> Path | None:
    """A file of a folder; None for what is missing or lies elsewhere, whatever the record says."""
    try:
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder.resolve()) and path.is_file() else None
    except (OSError, RuntimeError):
        # Links that lead in a circle, or a name that is too long.
        return None


def _encodable(value: Any) -> Any:
    """What MongoDB can hold: keys without dots and leading dollars, numbers of 64 bits, texts without surrogates."""
    if isinstance(value, Mapping):
        return {_key(str(name)): _encodable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(part) for part in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return float(value) if abs(value) < 1e300 else math.inf
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


def _key(name: str) -> str:
    return ("@" + name[1:] if name.startswith("$") else name).replace(".", ",").replace("\0", "")
