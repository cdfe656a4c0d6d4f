"""What scripts/omniboard.sh asks: which database there is, and the columns that Omniboard shows at first.

python -m debias.tracking.mongo.browse find      the address in MONGO_URL, else that of a MongoDB here, else status 3
python -m debias.tracking.mongo.browse port      a free port
python -m debias.tracking.mongo.browse wait      until the database of MONGO_URL answers
python -m debias.tracking.mongo.browse columns   give its Omniboard the columns of this field, unless it has some
"""

import socket
import sys
import time
from collections.abc import Sequence

from pymongo.errors import PyMongoError

from debias.errors import UserError
from debias.redaction import redact
from debias.tracking.mongo.address import DATABASE, Address, from_environment, parse_address, reason

LOCAL = "127.0.0.1:27017"

# Head -> setting, and head -> metric whose last value is shown.
SETTINGS = {"method": "config.method", "data set": "config.dataset", "skew": "config.skew", "seed": "config.seed"}
FIGURES = {"unbiased %": "unbiased", "conflicting %": "conflicting"}


def main(words: Sequence[str]) -> int:
    """One of the commands above; the exit status (2: a user error, 3: no database)."""
    try:
        return {"find": _find, "port": _port, "wait": _wait, "columns": _columns}[words[0]]()
    except UserError as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        return 2


def give_columns(address: Address) -> bool:
    """Give Omniboard its first columns: method, data set, skew, seed, unbiased, conflicting. False when it has some."""
    with address.client() as client:
        database = client[address.database]
        settings, metrics = database["omniboard.custom.columns"], database["omniboard.metric.columns"]
        if settings.find_one() or metrics.find_one():
            return False
        settings.insert_many([{"name": head, "config_path": path} for head, path in SETTINGS.items()])
        metrics.insert_many([{"name": h, "metric_name": name, "extrema": "last"} for h, name in FIGURES.items()])
        return True


def _find() -> int:
    address = from_environment()
    if address is not None:
        print(_whole(address))
        return 0
    local = parse_address(LOCAL)
    with local.client() as client:
        try:
            client.admin.command("ping")
        except PyMongoError:
            return 3
    print(_whole(local))
    return 0


def _whole(address: Address) -> str:
    """The address with its database in it, as Omniboard wants it."""
    head, mark, options = address.url.partition("?")
    scheme, _, rest = head.partition("://")
    users, at, place = rest.rpartition("@")
    return f"{scheme}://{users}{at}{place.split('/')[0]}/{address.database or DATABASE}{mark}{options}"


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        print(free.getsockname()[1])
    return 0


def _wait(attempts: int = 30) -> int:
    address = _given()
    with address.client() as client:
        for attempt in range(attempts):
            try:
                client.admin.command("ping")
                return 0
            except PyMongoError as error:
                if attempt + 1 == attempts:
                    raise UserError(f"MongoDB at {address}: {reason(error)}") from None
                time.sleep(0.2)
    return 0


def _columns() -> int:
    address = _given()
    try:
        give_columns(address)
    except PyMongoError as error:
        raise UserError(f"MongoDB at {address}: {reason(error)}") from None
    return 0


def _given() -> Address:
    address = from_environment()
    if address is None:
        raise UserError("set MONGO_URL to the address of a database")
    return address


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
