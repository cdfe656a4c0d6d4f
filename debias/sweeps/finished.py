"""Which trials are finished: runs of the store and of a record, whoever started them, by what decides their figures."""

from pathlib import Path

from debias.errors import UserError
from debias.sweeps.plan import run_key
from debias.tracking.folders import RunRecord
from debias.tracking.results.gather import gather

# What a run's settings make of it never changes, and takes longer than reading them. None: of another version.
_keys: dict[str, str | None] = {}


def finished_runs(store: Path, record_file: Path | None) -> dict[str, RunRecord]:
    """The newest finished run of each `run_key`; `record_file` is a CSV file that need not be there yet."""
    done: dict[str, RunRecord] = {}
    for run in gather([store], [record_file] if record_file is not None and record_file.exists() else []):
        key = _key(run) if run.finished else None
        if key is not None:
            done[key] = run
    return done


def _key(run: RunRecord) -> str | None:
    if run.uid not in _keys or not run.uid:
        try:
            _keys[run.uid] = run_key(run.config)
        except UserError:
            _keys[run.uid] = None
    return _keys[run.uid]
