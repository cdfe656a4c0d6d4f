"""Passwords stay out of what is shown and kept."""

import re

# Of any database: what may have a password in front of @, or behind ?. SQLite's are files.
_URL = re.compile(r"(?<![\w+.-])(?!https?:|file:|sqlite)[a-z][\w+.-]*://[^\s'\"<>]*", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` with every address of a database in it cut down to scheme and hosts."""
    return _URL.sub(lambda match: _hosts_of(match[0]), text)


def _hosts_of(url: str) -> str:
    scheme, _, rest = url.partition("://")
    head = re.split(r"[?]", rest.rpartition("@")[2], maxsplit=1)[0]
    return f"{scheme}://{head}"
