"""Addresses of databases: what is accepted, and that nothing secret is ever shown."""

import pytest
from pymongo.errors import ConfigurationError, OperationFailure, ServerSelectionTimeoutError

from debias.errors import UserError
from debias.redaction import redact
from debias.tracking.mongo.address import from_environment, parse_address, reason

PASSWORDS = ["secret", "s3:cr/et@?#", "se%40cret", "pass word"]


@pytest.mark.parametrize(
    ("text", "shown", "database"),
    [
        ("mongodb://127.0.0.1:27017/mine", "mongodb://127.0.0.1:27017/mine", "mine"),
        ("mongodb://host", "mongodb://host/sacred", "sacred"),
        ("mongodb://host:1/?replicaSet=x", "mongodb://host:1/sacred", "sacred"),
        ("mongodb://u:secret@host:1/db?authSource=admin&k=secret", "mongodb://host:1/db", "db"),
        ("mongodb+srv://u:secret@cluster.example/db", "mongodb+srv://cluster.example/db", "db"),
        ("mongodb://u:secret@a:1,b:2/db", "mongodb://a:1,b:2/db", "db"),
        ("localhost:27017", "mongodb://localhost:27017/sacred", "sacred"),
        ("host:27017:db", "mongodb://host:27017/db", "db"),
        ("db", "mongodb://localhost:27017/db", "db"),
    ],
)
def test_addresses(text, shown, database):
    address = parse_address(text)
    assert (str(address), address.database) == (shown, database)
    assert "secret" not in f"{address} {address!r}"


@pytest.mark.parametrize(
    "text", ["", "mongodb://", "mongodb:///db", "http://host/db", "host:port:db", "mongodb://u:secret@host/a b", "a/b"]
)
def test_what_is_no_address_is_refused_without_being_repeated(text):
    with pytest.raises(UserError, match="expected an address like mongodb://") as caught:
        parse_address(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["mongodb://u:secret@host:99999/db", "mongodb://u:s/e:c@r?et@h/d?w=-1", "mongodb://h/d?authMechanism=secret"],
)
def test_what_the_driver_refuses(text):
    with pytest.raises(UserError) as caught:
        parse_address(text).client().close()
    assert "secret" not in str(caught.value) and "c@r" not in str(caught.value)


@pytest.mark.parametrize("password", PASSWORDS[:1] + PASSWORDS[2:3])
def test_redact(password):
    text = f"a mongodb://u:{password}@h:1/d?x={password} b mongodb+srv://{password}@h c"
    assert redact(text) == "a mongodb://h:1/d b mongodb+srv://h c"


def test_redact_knows_every_database():
    secret = "postgresql+psycopg2://me:s@x@h:5/d?password=s mysql://me:s@h/d, ('mssql+pyodbc://me:s@h/d?odbc=s')"
    assert redact(secret) == "postgresql+psycopg2://h:5/d mysql://h/d, ('mssql+pyodbc://h/d')"
    for plain in ("sqlite:////a@b/c.db?x=1", "https://h/a@b?c=d", "file:///a@b", "no://address", "a/b?c@d"):
        assert redact(plain) == plain


def test_the_environment(monkeypatch):
    monkeypatch.setenv("MONGO_URL", " ")
    assert from_environment() is None
    monkeypatch.setenv("MONGO_URL", "mongodb://h:1/d")
    assert str(from_environment()) == "mongodb://h:1/d"
    monkeypatch.setenv("MONGO_URL", "http://h")
    with pytest.raises(UserError, match="MONGO_URL"):
        from_environment()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ServerSelectionTimeoutError("long\ntext"), "no answer"),
        (OperationFailure("Authentication failed.", 18), "the server refuses this user or password"),
        (ConfigurationError("bad mongodb://u:secret@h/d"), "bad mongodb://h/d"),
        (OSError(), "OSError"),
    ],
)
def test_reasons(error, words):
    assert reason(error) == words
