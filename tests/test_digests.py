"""Digests: equal content, equal name."""

import hashlib

from debias.digests import digest, digest_of, digest_of_file


def test_digest():
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})
    values = [{"a": 1}, {"a": 2}, {"a": "1"}, {"a": True}, {"a": None}, {"b": 1}, {"a": [1]}, {"a": {"a": 1}}, {}]
    assert len({digest(value) for value in values}) == len(values)
    assert digest({}).isalnum()


def test_digest_of_a_file_and_of_parts_is_that_of_the_whole(tmp_path):
    (tmp_path / "a").write_bytes(b"one two")
    whole = hashlib.sha256(b"one two").hexdigest()
    assert digest_of_file(tmp_path / "a") == digest_of([b"one ", memoryview(b"two")]) == whole != digest_of([b"one"])
