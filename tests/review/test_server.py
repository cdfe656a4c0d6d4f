"""What the server answers, and to whom."""

import http.client
import socket

import pytest

from debias.errors import UserError
from debias.review.server import HOST, MOST_BYTES, Server


@pytest.fixture
def ask(mined, served):
    with served(mined) as asked:
        yield asked


def test_the_page_needs_nothing_else(ask):
    status, body, headers = ask("")
    page = body.decode()
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    policy = headers["Content-Security-Policy"]
    nonce = policy.split("script-src 'nonce-")[1].split("'")[0]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "*" not in policy
    assert page.count(f'nonce="{nonce}"') == 2 and "NONCE" not in page
    # Its parts are inside, and nothing is fetched from elsewhere.
    assert "function draw" in page and "const map" in page and ".tile" in page
    assert "http://" not in page and "https://" not in page and "src=" not in page.split("<script")[0]
    assert headers["Referrer-Policy"] == "no-referrer" and headers["X-Content-Type-Options"] == "nosniff"
    assert ask("")[2]["Content-Security-Policy"] != policy


def test_state_and_pictures(ask, mined):
    status, state, _ = ask("state")
    assert status == 200 and state["classes"] == ["camel", "cow"] and state["missing"] == []
    assert len(state["id"]) == 64 == len(state["score"]) and sum(state["suspect"]) == 5
    assert state["rank"] == sorted(state["rank"], reverse=True) and state["result"].endswith("reviewed.csv")
    for target, name in zip(state["target"], state["name"], strict=True):
        assert name.startswith(f"{state['classes'][target]}/photo ")
    for what in ("thumb", "image"):
        status, body, headers = ask(f"{what}/{state['id'][0]}")
        assert status == 200 and headers["Content-Type"] == "image/png" and body.startswith(b"\x89PNG")


@pytest.mark.parametrize("path", ["", "state", "marks", "thumb/0", "near/0", "map/pca", "nowhere"])
def test_without_the_token_nothing_is_told(ask, path):
    for token in ("", "wrong", ask.server.token[:-1], ask.server.token + "x", "%2e%2e"):
        status, said, _ = ask(path, token=token)
        assert status == 403 and "address" in said["error"]
        status, _, _ = ask("marks", {"marks": [{"id": 0, "mark": "fine"}]}, token=token)
        assert status == 403
    assert ask.session.marks.as_dict() == {}


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "", "[::1]:80"])
def test_a_name_that_is_not_this_address_is_refused(ask, host):
    """What a page elsewhere, whose name was made to resolve to this machine, would send."""
    for body in (None, {"marks": []}):
        assert ask("marks", body, Host=host)[0] == 403
    assert ask("marks", Host=f"localhost:{ask.server.server_port}")[0] == 200


def test_a_request_with_no_host_or_two_is_refused(ask):
    for hosts in ((), (ask.host, "evil.example"), (ask.host, ask.host)):
        connection = http.client.HTTPConnection(HOST, ask.server.server_port, timeout=30)
        connection.putrequest("GET", f"/{ask.server.token}/state", skip_host=True)
        for host in hosts:
            connection.putheader("Host", host)
        connection.endheaders()
        assert connection.getresponse().status == 403
        connection.close()


def test_a_request_of_another_page_is_refused(ask):
    assert ask("marks", {"marks": []}, Origin="http://evil.example")[0] == 403
    assert ask("marks", {"marks": []}, Origin="null")[0] == 403
    assert ask("marks", {"marks": []}, Origin=f"http://{ask.host}")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "../1/config.json", "thumb/../../config.json", "thumb/..%2f..%2fconfig.json", "thumb//etc/passwd",
        "thumb/%2fetc%2fpasswd", "image/config.json", "page.html", "page/page.js", "thumb/999999", "thumb/-1",
        "thumb/0.png", "thumb/0?x=/etc/passwd", "thumb/٣", "near/999999", "map/../state", "thumb/" + "9" * 40, "near/",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file(ask, path):
    raw = f"GET /{ask.server.token}/{path} HTTP/1.1\r\nHost: {ask.host}\r\nConnection: close\r\n\r\n".encode()
    with socket.create_connection((HOST, ask.server.server_port), timeout=30) as wire:
        wire.sendall(raw)
        answer = b"".join(iter(lambda: wire.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404") and answer.endswith(b'{"error": "there is nothing here"}')


def test_marks_are_kept_and_told(ask, mined):
    state = ask("state")[1]
    first, second = state["id"][:2]
    status, said, _ = ask("marks", {"marks": [{"id": first, "mark": "conflicting"}, {"id": second, "mark": "drop"}]})
    assert (status, said) == (200, {"saved": 2, "problem": ""})
    assert ask("marks", {"marks": [{"id": second, "mark": "wrong label", "label": "cow"}]})[0] == 200
    assert ask("marks")[1]["marks"] == [[first, "conflicting", ""], [second, "wrong label", "cow"]]
    assert ask("marks", {"marks": [{"id": first, "mark": ""}]})[0] == 200
    assert ask("state")[1]["marks"] == [[second, "wrong label", "cow"]]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff\xfe", b"[]", b"null", b'{"marks": 3}', b'{"marks": [3]}', b'{"other": []}', b"[" * 100_000,
        b'{"marks": [{"id": 0}]}', b'{"marks": [{"id": "0", "mark": "fine"}]}',
        b'{"marks": [{"id": true, "mark": "fine"}]}',
        b'{"marks": [{"id": 0, "mark": "good"}]}', b'{"marks": [{"id": 0.0, "mark": "fine"}]}',
        b'{"marks": [{"id": 0, "mark": "fine"}, {"id": 123456, "mark": "fine"}]}',
        b'{"marks": [{"id": 0, "mark": "fine", "label": "cow"}]}', b'{"marks": [{"id": 0, "mark": ["fine"]}]}',
        b'{"marks": [{"id": 0, "mark": "wrong label", "label": "horse"}]}',
    ],
)  # fmt: skip
def test_what_is_not_marks_changes_nothing(ask, body):
    status, said, _ = ask("marks", body)
    assert status == 400 and said["error"].startswith("not marks")
    assert ask.session.marks.as_dict() == {}


def test_a_huge_body_is_refused_before_it_is_read(ask):
    for length in (MOST_BYTES + 1, 10**11):
        with socket.create_connection((HOST, ask.server.server_port), timeout=30) as wire:
            head = f"POST /{ask.server.token}/marks HTTP/1.1\r\nHost: {ask.host}\r\nContent-Type: application/json\r\n"
            wire.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
            # Nothing of the body is sent: the answer does not wait for it.
            answer = b"".join(iter(lambda: wire.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 413") and b"Connection: close" in answer


def test_other_requests(ask):
    assert ask("marks", b"{}", Content_Type="text/plain")[0] == 415
    assert ask("state", {"marks": []})[0] == 404
    for length in ("-1", "x", "1e3", "٣"):
        head = f"POST /{ask.server.token}/marks HTTP/1.1\r\nHost: {ask.host}\r\nContent-Type: application/json\r\n"
        with socket.create_connection((HOST, ask.server.server_port), timeout=30) as wire:
            wire.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
            assert wire.recv(65536).startswith(b"HTTP/1.1 411")
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"):
        assert ask("state", method=method)[0] == 405
        assert ask("state", method=method, token="wrong")[0] == 403


def test_near_and_map(ask):
    state = ask("state")[1]
    status, said, _ = ask(f"near/{state['id'][3]}")
    assert status == 200 and len(said["distance"]) == 64 and "pixels" in said["words"]
    assert said["distance"][3] == min(said["distance"]) and max(said["distance"]) > 0.5
    status, said, _ = ask("map/pca")
    assert status == 200 and len(said["x"]) == len(said["y"]) == 64
    assert min(said["x"]) >= 0 and max(said["x"]) == 1 and len(set(said["x"])) > 30
    if not state["umap"]:
        assert ask("map/umap")[0] == 409


def test_a_port_in_use_is_said_in_a_line(ask):
    with pytest.raises(UserError, match=f"port={ask.server.server_port}: cannot be used"):
        Server(ask.session, ask.server.server_port)


def test_the_disk_is_full(ask, monkeypatch):
    """A mark that is not on the disk is not confirmed."""

    def fsync(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("debias.review.marks.os.fsync", fsync)
    status, said, _ = ask("marks", {"marks": [{"id": 0, "mark": "fine"}]})
    assert status == 507 and "No space left" in said["error"] and ask("marks")[1]["marks"] == []
