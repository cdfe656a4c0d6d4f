"""Files known again: by path, by the end of a path, by content, and never by a guess."""

import pytest

from debias.data.known import CHANGED, GONE, Found, KnownFiles

FILES = ["p/train/cow/1.jpg", "p/train/cow/2.jpg", "p/train/camel/1.jpg", "p/train/camel/2.jpg", "p/more/cow/2.jpg"]
DIGESTS = ["aa", "bb", "cc", "dd", "bb"]


@pytest.fixture
def known():
    return KnownFiles(FILES, DIGESTS, range(5))


@pytest.mark.parametrize(
    ("path", "content", "found"),
    [
        ("p/train/cow/1.jpg", "aa", Found(0)),
        ("p/train/cow/1.jpg", "", Found(0)),
        ("camel/1.jpg", "cc", Found(2)),  # below some folder
        ("camel/1.jpg", "", Found(2)),
        ("cow/2.jpg", "", Found(None, GONE)),  # two end so, and nothing tells them apart
        ("cow/2.jpg", "bb", Found(None, GONE)),
        ("train/cow/2.jpg", "bb", Found(1)),
        ("elsewhere/9.jpg", "dd", Found(3)),  # moved
        ("elsewhere/9.jpg", "bb", Found(None, GONE)),  # two have its content
        ("elsewhere/9.jpg", "ee", Found(None, GONE)),
        ("elsewhere/9.jpg", "", Found(None, GONE)),
        ("p/train/cow/1.jpg", "ee", Found(None, CHANGED)),
        ("p/train/cow/1.jpg", "dd", Found(3)),  # two changed places
        ("w/1.jpg", "", Found(None, GONE)),  # an end that does not begin at a folder
        ("", "", Found(None, GONE)),
    ],
)
def test_find(known, path, content, found):
    assert known.find(path, content) == found


def test_only_numbers_that_there_are_are_found():
    known = KnownFiles(FILES, DIGESTS, [0, 4])
    assert known.find("p/train/cow/2.jpg", "bb") == Found(4) and known.find("camel/1.jpg", "cc") == Found(None, GONE)


def test_without_digests_paths_tell():
    known = KnownFiles(FILES, None, range(5))
    assert known.find("p/train/cow/1.jpg", "aa") == Found(0) and known.find("x.jpg", "aa") == Found(None, GONE)
