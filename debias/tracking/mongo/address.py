"""Where a MongoDB is: what the user writes, and what may be shown of it."""

import os
import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from debias.errors import UserError
from debias.redaction import redact

if TYPE_CHECKING:
    from pymongo import MongoClient

DATABASE = "sacred"
# A server that does not answer may cost a moment, never minutes: pymongo's own default is 30 s for each attempt.
WAIT_MS, TALK_MS = 2000, 5000

_SACRED = re.compile(r"(?:(?P<host>[\w.-]+):(?P<port>\d{1,5}))?(?::?(?P<database>[A-Za-z_][\w-]{0,62}))?")


@dataclass(frozen=True)
class Address:
    """A server and a database on it. `str()` shows neither user nor password nor options; `url` has them all."""

    url: str = field(repr=False)
    shown: str
    database: str

    def __str__(self) -> str:
        return self.shown

    def client(self) -> "MongoClient[dict[str, Any]]":
        """A client that has not connected yet; close it.

        Raises
        ------
        UserError
            When the address is none that the driver can use.
        """
        from pymongo import MongoClient
        from pymongo.errors import PyMongoError

        try:
            with warnings.catch_warnings():
                # It warns of options that it does not know, and repeats them.
                warnings.simplefilter("error")
                return MongoClient(
                    self.url,
                    serverSelectionTimeoutMS=WAIT_MS,
                    connectTimeoutMS=WAIT_MS,
                    socketTimeoutMS=TALK_MS,
                    appname="debias",
                )
        except (PyMongoError, ValueError, UserWarning, OSError) as error:
            # The driver's words may repeat a part of the address, and so of a password.
            raise UserError(
                f"mongo_url={self}: the driver refuses it ({type(error).__name__}); check host, port, user, password "
                "(with % for special characters) and the options after ?"
            ) from None


def parse_address(text: str, name: str = "mongo_url") -> Address:
    """From mongodb://host:port/database, or as Sacred's -m has it: host:port, host:port:database, database.

    Raises
    ------
    UserError
        Naming the setting `name`, without the text, which may hold a password.
    """
    expected = f"{name}: expected an address like mongodb://127.0.0.1:27017/{DATABASE}"
    if re.search(r"[\s\\\x00-\x1f\x7f]", text):
        raise UserError(expected)
    if not text.lower().startswith(("mongodb://", "mongodb+srv://")):
        match = _SACRED.fullmatch(text)
        if not text or match is None or not any(match.groups()):
            raise UserError(expected)
        host = f"{match['host'] or 'localhost'}:{match['port'] or 27017}"
        database = match["database"] or DATABASE
        return Address(f"mongodb://{host}/", f"mongodb://{host}/{database}", database)
    scheme, _, rest = text.partition("://")
    try:
        database = unquote(urlsplit(f"//{rest.rpartition('@')[2]}").path.strip("/")) or DATABASE
    except ValueError:
        raise UserError(expected) from None
    hosts = re.split(r"[/?]", rest.rpartition("@")[2], maxsplit=1)[0]
    if not hosts or not re.fullmatch(r"[\w-]{1,63}", database):
        raise UserError(expected)
    return Address(text, f"{scheme.lower()}://{hosts}/{database}", database)


def from_environment() -> Address | None:
    """The address in the variable MONGO_URL, if there is one."""
    text = os.environ.get("MONGO_URL", "").strip()
    return parse_address(text, "MONGO_URL") if text else None


def reason(error: BaseException) -> str:
    """Why a server cannot be used, in a few words and without an address's secrets."""
    from pymongo.errors import OperationFailure, ServerSelectionTimeoutError

    if isinstance(error, OperationFailure) and error.code in (13, 18):
        return "the server refuses this user or password"
    if isinstance(error, ServerSelectionTimeoutError):
        return "no answer"
    return redact(str(error)).splitlines()[0][:200] if str(error) else type(error).__name__
