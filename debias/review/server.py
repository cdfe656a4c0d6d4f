"""The server of one page, for one browser on the same machine: standard library, one address with a secret in it.

Every request must name this address as its host, which a page of another site that resolves to it does not, and carry
the token. A request says numbers of images and names of marks; no path of a file is ever taken from it.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from debias.errors import UserError
from debias.review.session import Session

HOST = "127.0.0.1"
# A request's body, in bytes: some thousand marks.
MOST_BYTES = 256 * 1024
# After a mark, how long the table may wait for further ones, in seconds.
_LATER = 1.0
_PAGE = Path(__file__).resolve().parent / "page"
_IMAGE = re.compile(r"(thumb|image|near)/([0-9]{1,12})")
_Answer = tuple[HTTPStatus, bytes, str]


class Server(ThreadingHTTPServer):
    """Serves a session until it is shut down.

    Parameters
    ----------
    session
        What is looked at.
    port
        0: any that is free.

    Raises
    ------
    UserError
        The port is in use, or may not be used.
    """

    daemon_threads = True

    def __init__(self, session: Session, port: int = 0) -> None:
        self.session = session
        self.token = secrets.token_urlsafe(24)
        self._changed, self._ended = threading.Event(), threading.Event()
        self.problem = ""
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            raise UserError(
                f"port={port}: cannot be used ({error.strerror or error}); leave it out for any that is free"
            ) from error
        self._writer = threading.Thread(target=self._write_tables, daemon=True)
        self._writer.start()

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def changed(self) -> None:
        """Marks were set: the table is to be written."""
        self._changed.set()

    def close(self) -> None:
        """End, and write the table where that is still to be done; errors as of `Marks.save`."""
        self._ended.set()
        self._changed.set()
        self._writer.join()
        self.server_close()
        self.session.marks.save()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is nothing to be told of."""

    def _write_tables(self) -> None:
        while not self._ended.is_set():
            self._changed.wait()
            self._ended.wait(_LATER)
            self._changed.clear()
            try:
                self.session.marks.save()
                self.problem = ""
            except OSError as error:
                self.problem = f"{self.session.marks.result}: cannot be written ({error.strerror or error})"


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "review"
    sys_version = ""
    # Of a silent connection, in seconds.
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is the user's."""

    def do_GET(self) -> None:
        """The page, images, and what is known of them."""
        if (path := self._path()) is not None:
            self._reply(*self._get(path))

    def do_POST(self) -> None:
        """Marks."""
        if (path := self._path()) is not None:
            self._reply(*self._post(path))

    def do_other(self) -> None:
        """No other method is of use."""
        if self._path() is not None:
            self._reply(*_said(HTTPStatus.METHOD_NOT_ALLOWED, "GET or POST"))

    do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_other

    def _path(self) -> str | None:
        """What is asked for, behind the token; None where the request was refused."""
        names = (f"{HOST}:{self.server.server_port}", f"localhost:{self.server.server_port}")
        hosts = self.headers.get_all("Host") or []
        origin = self.headers.get("Origin")
        token, slash, path = self.path.removeprefix("/").partition("/")
        right = hmac.compare_digest(token.encode(errors="replace"), self.server.token.encode())
        if len(hosts) != 1 or hosts[0] not in names or not right or not slash:
            self._refuse(HTTPStatus.FORBIDDEN, "the address is not that of this review; take the one in the terminal")
        elif origin is not None and origin.removeprefix("http://") not in names:
            self._refuse(HTTPStatus.FORBIDDEN, "of another page")
        else:
            return path
        return None

    def _get(self, path: str) -> _Answer:
        session = self.server.session
        if path == "":
            return HTTPStatus.OK, b"", "text/html; charset=utf-8"
        if path == "state":
            return _json(session.state())
        if path == "marks":
            return _json(self._saved())
        if path in ("map/pca", "map/umap"):
            return self._computed(lambda: session.map(path.removeprefix("map/")))
        wanted = _IMAGE.fullmatch(path)
        if wanted is None or not session.has(int(wanted[2])):
            return _said(HTTPStatus.NOT_FOUND, "there is nothing here")
        what, number = wanted[1], int(wanted[2])
        if what == "near":
            return self._computed(lambda: session.near(number))
        return HTTPStatus.OK, *session.picture(number, small=what == "thumb")

    def _computed(self, compute: Callable[[], dict[str, Any]]) -> _Answer:
        try:
            return _json(compute())
        except (UserError, RuntimeError, ValueError, OSError) as error:
            return _said(HTTPStatus.CONFLICT, str(error))

    def _post(self, path: str) -> _Answer:
        marks = self.server.session.marks
        # What is not read of a body would be taken for the next request.
        self.close_connection = True
        if path != "marks":
            return _said(HTTPStatus.NOT_FOUND, "there is nothing here")
        if self.headers.get_content_type() != "application/json":
            return _said(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "JSON is wanted")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,12}", length) or "Transfer-Encoding" in self.headers:
            return _said(HTTPStatus.LENGTH_REQUIRED, "a length is wanted")
        if int(length) > MOST_BYTES:
            return _said(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {MOST_BYTES} bytes")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return _said(HTTPStatus.BAD_REQUEST, "the body breaks off")
        self.close_connection = False
        try:
            said = json.loads(body)
            given = said["marks"] if isinstance(said, dict) else None
            if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
                raise ValueError("a list of marks is wanted")
            changes = [marks.check(each.get("id"), each.get("mark"), each.get("label", "")) for each in given]
        except (ValueError, KeyError, RecursionError) as error:
            return _said(HTTPStatus.BAD_REQUEST, f"not marks: {error}")
        try:
            marks.put(changes)
        except OSError as error:
            return _said(HTTPStatus.INSUFFICIENT_STORAGE, f"{marks.path}: {error.strerror or error}")
        self.server.changed()
        return _json({"saved": len(changes), "problem": self.server.problem})

    def _saved(self) -> dict[str, Any]:
        return {"marks": self.server.session.marked(), "problem": self.server.problem}

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.close_connection = True
        self._reply(*_said(status, why))

    def _reply(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        nonce = secrets.token_urlsafe(16)
        if kind.startswith("text/html"):
            body = page(nonce)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        # An image stays what it is as long as the token does.
        self.send_header("Cache-Control", "private, max-age=86400" if kind.startswith("image/") else "no-store")
        self.send_header(
            "Content-Security-Policy",
            f"default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'nonce-{nonce}'; "
            f"script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        )
        for name, value in (
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def page(nonce: str) -> bytes:
    """The page: one document that needs nothing else, whose style and script carry a nonce."""
    text = (_PAGE / "page.html").read_text(encoding="utf-8")
    for name in ("page.css", "page.js", "map.js"):
        text = text.replace(f"/* {name} */", (_PAGE / name).read_text(encoding="utf-8"))
    return text.replace("NONCE", nonce).encode()


def _json(value: Any) -> _Answer:
    return HTTPStatus.OK, json.dumps(value, separators=(",", ":")).encode(), "application/json"


def _said(status: HTTPStatus, text: str) -> _Answer:
    return status, json.dumps({"error": text}).encode(), "application/json"
