"""What a record says of its settings counts, and what is known of settings where it says nothing."""

from pathlib import Path

from debias.tracking.folders import RunRecord
from debias.tracking.results.roles import roles_of, told_of

CONFIG = {"dataset": "colored_digits", "method": "erm", "seed": 1, "severity": 4, "device": "cpu"}


def record(**info):
    return RunRecord(Path("runs/1"), "train", "COMPLETED", CONFIG, {}, info=info)


def test_a_record_says_which_settings_decide():
    said = record(settings={"data": ["dataset"], "method": ["method", "device"], "told": ["device"]})
    assert roles_of(said) == {"dataset": "data", "method": "method", "device": "method"}
    assert told_of(said) == {"device"}


def test_of_an_older_record_what_is_known_counts():
    assert roles_of(record()) == {"dataset": "data", "method": "method", "seed": "method", "severity": "data"}
    assert told_of(record()) == {"severity"}
