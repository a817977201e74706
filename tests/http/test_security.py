"""Access to the control plane: each rule, from a bare socket and for every kind of connection."""

from __future__ import annotations

import hmac
import http.client
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import failpoints
from failpoints import configure
from failpoints._http.guard import check_request, is_loopback
from failpoints.admin import admin_app

AT = "/v1/failpoints"
TOKEN = "s3cret-Token"
Serve = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="module")
def open_url(serve: Serve) -> Iterator[str]:
    """Serve a control plane without a token."""
    with serve(admin_app()) as url:
        yield url


@pytest.fixture(scope="module")
def token_url(serve: Serve) -> Iterator[str]:
    """Serve a control plane with a token, mounted at /debug."""
    with serve(Starlette(routes=[Mount("/debug", app=admin_app(token=TOKEN))])) as url:
        yield url


# the token

WRONG = [
    [],
    ["Authorization: "],
    ["Authorization: Bearer"],
    ["Authorization: Bearer "],
    ["Authorization: Bearer s3cret-Toke"],
    ["Authorization: Bearer s3cret-Token2"],
    ["Authorization: Bearer S3CRET-TOKEN"],
    ["Authorization: Bearers3cret-Token"],
    ["Authorization: Basic s3cret-Token"],
    ["Authorization: s3cret-Token"],
    ["Authorization: Bearer s3cret-Token, Bearer s3cret-Token"],
    ["Authorization: Bearer s3cret-Token", "Authorization: Bearer s3cret-Token"],
    ["Authorization: Bearer s3cret-Token", "Authorization: Bearer other"],
    ["Authorization: Bearer s3cret\xc3\xa9"],
    ["Authorization: Bearer \xff"],
    ["X-Authorization: Bearer s3cret-Token"],
    ["Cookie: token=s3cret-Token"],
]


@pytest.mark.parametrize("headers", WRONG, ids=map(str, WRONG))
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", AT),
        ("PUT", AT),
        ("DELETE", AT),
        ("POST", f"{AT}/a/resume"),
        ("GET", f"{AT}/openapi.json"),
        ("GET", "/x"),
    ],
)
def test_a_wrong_token(token_url: str, raw: Any, headers: list[str], method: str, path: str) -> None:
    """Without the right token nothing is done and nothing revealed, not even which paths exist."""
    configure("a", "off")
    answer = raw.ask(token_url, method, f"/debug{path}", *headers, json=[{"name": "b", "actions": "off"}])
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.msg == "this control plane requires Authorization: Bearer TOKEN"
    assert [status.name for status in failpoints.statuses()] == ["a"]


@pytest.mark.parametrize(
    "header",
    [
        "Authorization: Bearer s3cret-Token",
        "authorization:bearer s3cret-Token",
        "AUTHORIZATION: BEARER   s3cret-Token  ",
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "example.com", "a b", None])
def test_the_token(token_url: str, raw: Any, header: str, host: str | None) -> None:
    """With the token every request is answered, whatever its Host header, and also through a proxy."""
    request = [header, "X-Forwarded-For: 8.8.8.8"]
    if host is None:  # which HTTP/1.1 does not allow
        with raw.connected(token_url) as connection:
            connection.sendall(f"GET /debug{AT} HTTP/1.0\r\n{header}\r\n\r\n".encode())
            assert raw.answer_on(connection).status == 200
    else:
        assert raw.ask(token_url, "GET", f"/debug{AT}", *request, host=host).status == 200


def test_the_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are compared by `hmac.compare_digest`, as bytes."""
    compared: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: bool(compared.append((one, other))))
    refused = check_request({"headers": [(b"authorization", b"Bearer x\xff")]}, TOKEN)
    assert refused is not None
    assert (refused.status, compared) == (401, [(b"x\xff", TOKEN.encode())])


# web pages

PAGE_HEADERS = [
    "Origin: http://evil.example",
    "Origin: http://127.0.0.1",
    "Origin: null",
    "Origin: ",
    "oRiGiN: http://localhost:3000",
    "Sec-Fetch-Site: cross-site",
    "Sec-Fetch-Site: same-site",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Site: none-such",
    "Sec-Fetch-Site: ",
]


@pytest.mark.parametrize("header", PAGE_HEADERS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_a_web_page(open_url: str, token_url: str, raw: Any, header: str, method: str) -> None:
    """Requests from web pages are refused, even with the token, and no header allows their origin."""
    body = [{"name": "a", "actions": "off"}]
    answers = [
        raw.ask(open_url, method, AT, header, json=body),
        raw.ask(token_url, method, f"/debug{AT}", header, f"Authorization: Bearer {TOKEN}", json=body),
        raw.ask(token_url, method, f"/debug{AT}", header, json=body),
    ]
    for answer in answers:
        assert answer.status == 403
        assert answer.msg.startswith("requests from web pages are refused")
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert failpoints.statuses() == []


@pytest.mark.parametrize("headers", [["Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"], ["Sec-Fetch-Site:  None "]])
def test_an_address_typed_into_a_browser(open_url: str, raw: Any, headers: list[str]) -> None:
    """An address that a person types into a browser is answered."""
    assert raw.ask(open_url, "GET", AT, *headers).status == 200


def test_contradicting_headers(open_url: str, raw: Any) -> None:
    """One header that indicates a web page is enough, whatever the others say."""
    for headers in ["Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"], ["Origin: null", "Sec-Fetch-Site: none"]:
        assert raw.ask(open_url, "GET", AT, *headers).status == 403


@pytest.mark.parametrize(
    "content_type",
    ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "text/ping", ""],
)
def test_a_form_without_an_origin(open_url: str, raw: Any, content_type: str) -> None:
    """Forms of old browsers, which send no Origin, can neither resume nor configure: their Content-Type is refused."""
    configure("a", "off")
    header = f"Content-Type: {content_type}"
    body = b'[{"name": "b", "actions": "off", "x": "="}]'
    assert raw.ask(open_url, "POST", f"{AT}/a/resume", header, "Content-Length: 0").status == 415
    assert raw.ask(open_url, "POST", AT, header, body=body).status == 415
    assert [status.name for status in failpoints.statuses()] == ["a"]


# hosts


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1:65535",
        "127.0.0.1:",
        "127.1.2.3",
        "localhost",
        "localhost:22381",
        "LOCALHOST",
        "[::1]",
        "[::1]:80",
        "[::ffff:127.0.0.1]:80",
        " 127.0.0.1 ",
    ],
)
def test_the_host(open_url: str, raw: Any, host: str) -> None:
    """Any loopback name is accepted, with any port, because the port may be forwarded."""
    assert raw.ask(open_url, "GET", AT, host=host).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "evil.example#127.0.0.1",
        "sub.localhost",
        "localhost.",
        "0.0.0.0",
        "[::]",
        "[fe80::1]",
        "192.168.0.1",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "::1",
        "[::1",
        "::1]",
        "[127.0.0.1]",
        "[localhost]",
        "[]",
        "127.0.0.1:x",
        "127.0.0.1:80:80",
        "127.0.0.1:-1",
        "127.0.0.1:123456",
        "127.0.0.1 evil.example",
        "127.0.0.1, evil.example",
        "127.0.0.1\t",
        "\xe9",
        "1\xb27.0.0.1",
        ":80",
        "",
    ],
)
def test_another_host(open_url: str, raw: Any, host: str) -> None:
    """Any other Host is refused, so that a foreign name that resolves to this machine gives no access."""
    answer = raw.ask(open_url, "PUT", AT, host=host, json=[{"name": "a", "actions": "off"}])
    if host.strip() == "127.0.0.1":
        assert answer.status == 200  # the tab is not part of the value
        return
    # The server itself refuses what is not a valid header.
    assert answer.status in ({400, 421} if not host.isascii() or " " in host else {421})
    assert failpoints.statuses() == []


@pytest.mark.parametrize(
    "hosts", ["", "Host: localhost\r\nHost: localhost\r\n", "Host: localhost\r\nHost: evil.example\r\n"]
)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_no_host_or_two(open_url: str, raw: Any, hosts: str, version: str) -> None:
    """No Host, or two, even valid ones, are refused by the application or by the server below it."""
    with raw.connected(open_url) as connection:
        connection.sendall(f"GET {AT} HTTP/{version}\r\n{hosts}\r\n".encode())
        assert raw.answer_on(connection).status in {400, 421}


def test_the_host_of_an_absolute_request(open_url: str, raw: Any) -> None:
    """A request line with the full URL of another server is a 404."""
    assert raw.ask(open_url, "GET", f"http://evil.example{AT}").status == 404


@pytest.mark.parametrize("header", [[], [(b"host", b"a"), (b"host", b"127.0.0.1")], [(b"host", b"10.0.0.1")]])
def test_hosts_that_a_server_lets_through(header: list[tuple[bytes, bytes]]) -> None:
    """The application itself refuses missing, doubled and foreign Hosts, whatever the server checks."""
    refused = check_request({"headers": header, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}, None)
    assert refused is not None
    assert refused.status == 421


# connections

LOCAL: list[tuple[Any, Any]] = [
    (("127.0.0.1", 1), ("127.0.0.1", 2)),
    (("127.0.0.1", 1), ("127.9.9.9", 2)),
    (("::1", 1), ("::1", 2)),
    (("::ffff:127.0.0.1", 1), ("::ffff:127.0.0.1", 2)),
    (["127.0.0.1", 1], ["127.0.0.1", 2]),
    (("127.0.0.1", 1), ("127.0.0.1", None)),
    (None, ("/run/app.sock", None)),
    (("", 0), ("/run/app.sock", None)),
    (("", None), ("", None)),
]
REMOTE: list[tuple[Any, Any]] = [
    (("8.8.8.8", 1), ("127.0.0.1", 2)),
    (("127.0.0.1", 1), ("8.8.8.8", 2)),
    (("127.0.0.1", 1), ("0.0.0.0", 2)),
    (("127.0.0.1", 1), ("::", 2)),
    (("192.168.0.2", 1), ("192.168.0.1", 2)),
    (("::ffff:8.8.8.8", 1), ("127.0.0.1", 2)),
    (("fe80::1%eth0", 1), ("::1", 2)),
    (("localhost", 1), ("127.0.0.1", 2)),
    (("127.0.0.1", 1), ("localhost", 2)),
    (("testclient", 1), ("testserver", 2)),
    (("unix:", 1), ("127.0.0.1", 2)),
    (("", 0), ("127.0.0.1", 2)),
    (None, ("127.0.0.1", 2)),
    (None, ("127.0.0.1", None)),
    (("8.8.8.8", 1), ("/run/app.sock", None)),
    (("127.0.0.1", 1), None),
    (None, None),
]


@pytest.mark.parametrize(("client", "server"), LOCAL)
def test_local_connections(client: Any, server: Any) -> None:
    """No token is required if both ends are loopback, or a Unix socket in the ways ASGI servers report one."""
    assert check_request({"headers": [(b"host", b"localhost")], "client": client, "server": server}, None) is None


@pytest.mark.parametrize(("client", "server"), REMOTE)
def test_remote_connections(client: Any, server: Any) -> None:
    """If either end is anything else, or unknown, a token is required and sufficient."""
    scope = {"headers": [(b"host", b"localhost")], "client": client, "server": server}
    refused = check_request(scope, None)
    assert refused is not None
    assert (refused.status, "without a token" in refused.msg) == (403, True)
    scope["headers"] = [(b"authorization", b"Bearer " + TOKEN.encode())]
    assert check_request(scope, TOKEN) is None


def test_a_server_that_reports_neither_end() -> None:
    """A connection whose ends the server leaves out of the scope is not local."""
    refused = check_request({"headers": []}, None)
    assert refused is not None
    assert refused.status == 403


@pytest.mark.parametrize("token", [None, TOKEN])
def test_the_order_of_the_checks(token: str | None) -> None:
    """A request that breaks every rule is refused as one of a web page, and after that for its missing access."""
    scope = {"headers": [(b"Origin", b"x"), (b"host", b"evil")], "client": ("8.8.8.8", 1), "server": ("8.8.4.4", 1)}
    refused = check_request(scope, token)
    assert refused is not None
    assert refused.msg.startswith("requests from web pages are refused")
    refused = check_request({**scope, "headers": [(b"host", b"evil")]}, token)
    assert refused is not None
    assert refused.status == (403 if token is None else 401)


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0:0:0:0:0:0:0:1", True),
        ("128.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:10.0.0.1", False),
        ("::127.0.0.1", False),
        ("127.0.0.1/8", False),
        ("127.0.0.01", False),
        (" 127.0.0.1", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_loopback_addresses(address: str, loopback: bool) -> None:
    """Only numeric addresses of this machine are loopback."""
    assert is_loopback(address) is loopback


# proxies


@pytest.fixture(scope="module", params=[{}, {"forwarded_allow_ips": "*"}, {"proxy_headers": False}], ids=str)
def proxied_url(serve: Serve, request: pytest.FixtureRequest) -> Iterator[str]:
    """Servers that believe the headers of proxies on this machine, of any proxy, or of none."""
    with serve(admin_app(), **request.param) as url:
        yield url


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-For: 8.8.8.8",
        "X-Forwarded-For: 127.0.0.1, 8.8.8.8",
        "X-Forwarded-For: ",
        "x-forwarded-proto: https",
        "X-Forwarded-Host: localhost",
        "X-Forwarded-Prefix: /x",
        "Forwarded: for=127.0.0.1",
        "Via: 1.1 proxy",
        "X-Real-IP: 127.0.0.1",
        "True-Client-IP: 127.0.0.1",
        "CF-Connecting-IP: 127.0.0.1",
    ],
)
def test_a_proxy(proxied_url: str, raw: Any, header: str) -> None:
    """Requests through a proxy are refused, whatever the server makes of the headers, which any client can write."""
    answer = raw.ask(proxied_url, "PUT", AT, header, json=[{"name": "a", "actions": "off"}])
    assert answer.status == 403
    assert "no proxy is in between" in answer.msg
    assert failpoints.statuses() == []


def own_address() -> str:
    """Return an address of this machine that is not loopback, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


@pytest.mark.skipif(own_address().startswith("127."), reason="this machine has loopback addresses only")
def test_a_connection_over_another_address(serve_on: Callable[..., Any], raw: Any) -> None:
    """A connection over an address that other machines can reach is refused, even from the same machine."""
    address = own_address()
    with socket.create_server((address, 0)) as listener, serve_on(admin_app(), listener):
        answer = raw.ask(f"http://{address}:{listener.getsockname()[1]}", "GET", AT, host=address)
    assert answer.status == 403


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Unix sockets that asyncio serves")
@pytest.mark.parametrize(
    ("header", "status"), [("X-Some: x", 200), ("Origin: null", 403), ("X-Forwarded-For: ::1", 403)]
)
def test_a_unix_socket(serve_on: Callable[..., Any], raw: Any, tmp_path: Path, header: str, status: int) -> None:
    """A Unix socket requires no token and accepts any Host. Web pages and proxies are refused there as well."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        with serve_on(admin_app(), listener):
            client.settimeout(20)
            client.connect(path)
            client.sendall(raw.request_of("GET", AT, header, host="any.thing"))
            assert raw.answer_on(client).status == status


# bodies

HEAD = f"PUT {AT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
MIB = 1024 * 1024


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/json-patch+json",
        "application/json, text/plain",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "application/json; boundary=x",
        "*/*",
        "",
    ],
)
def test_another_content_type(open_url: str, raw: Any, content_type: str) -> None:
    """A body with another Content-Type, even an empty one, is refused: it could come from a form."""
    body = b'[{"name": "a", "actions": "off"}]'
    answer = raw.ask(open_url, "PUT", AT, f"Content-Type: {content_type}", body=body)
    assert answer.status == 415
    assert "must be application/json; got" in answer.msg
    assert failpoints.statuses() == []


def test_no_content_type_or_two(open_url: str, raw: Any) -> None:
    """A body without a Content-Type, or with two, is refused."""
    assert "it is missing" in raw.ask(open_url, "PUT", AT, body=b"[]").msg
    assert "it is missing" in raw.ask(open_url, "PUT", AT).msg
    two = ["Content-Type: application/json", "Content-Type: text/plain"]
    assert raw.ask(open_url, "PUT", AT, *two, body=b"[]").status == 415


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json;charset=utf-8",
        'application/json ; charset="UTF-8"',
        "application/json;",
    ],
)
def test_the_content_type(open_url: str, raw: Any, content_type: str) -> None:
    """The type is accepted in any case, and with the charset UTF-8."""
    assert raw.ask(open_url, "PUT", AT, f"content-type: {content_type}", body=b"[]").status == 200


def test_an_encoded_body(open_url: str, raw: Any) -> None:
    """A compressed body is refused, because it may unpack to a large one."""
    headers = ["Content-Type: application/json", "Content-Encoding: gzip"]
    assert "without Content-Encoding; got 'gzip'" in raw.ask(open_url, "PUT", AT, *headers, body=b"\x1f\x8b").msg


def test_a_large_body_with_a_length(open_url: str, raw: Any) -> None:
    """A body that is too large by its Content-Length is refused before it is read."""
    with raw.connected(open_url) as connection:
        connection.sendall(f"{HEAD}Content-Length: {MIB + 1}\r\n\r\n".encode())
        answer = raw.answer_on(connection)
    assert answer.status == 413
    assert "1048576 bytes" in answer.msg


def test_a_large_body_in_chunks(open_url: str, raw: Any) -> None:
    """A chunked body is refused as soon as it is too large, before its end arrives."""
    with raw.connected(open_url) as connection:
        connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(17):
            connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
        assert raw.answer_on(connection).status == 413


def test_the_largest_body(open_url: str, raw: Any) -> None:
    """A body of 1 MiB is accepted, in one piece or in chunks."""
    body = b"[" + b" " * (MIB - 2) + b"]"
    assert raw.ask(open_url, "PUT", AT, "Content-Type: application/json", body=body).body == b"null"
    with raw.connected(open_url) as connection:
        connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n{MIB:x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
        assert raw.answer_on(connection).status == 200


@pytest.mark.parametrize(
    ("method", "path", "instead"),
    [
        ("GET", AT, None),
        ("GET", f"{AT}/a", None),
        ("DELETE", AT, "put its name into the path"),
        ("DELETE", f"{AT}/a", "add ?handle= to the path"),
        ("POST", f"{AT}/a/resume", "add ?tasks=, ?context= or ?handle= to the path"),
    ],
)
def test_a_body_where_none_is_expected(open_url: str, raw: Any, method: str, path: str, instead: str | None) -> None:
    """A body that would be ignored is refused where the request changes something, and nothing is changed.

    It is neither read nor waited for, however large its Content-Length.
    """
    configure("a", "off")
    with raw.connected(open_url) as connection:
        connection.sendall(raw.request_of(method, path, f"Content-Length: {10**12}") + b"x" * 1000)
        answer = raw.answer_on(connection)
    assert answer.status == (400 if instead else 200)
    if instead:
        assert answer.msg.startswith(f"{method} takes no body here: ") and instead in answer.msg
        with raw.connected(open_url) as connection:
            connection.sendall(raw.request_of(method, path, "Transfer-Encoding: chunked") + b"2\r\n{}\r\n0\r\n\r\n")
            assert raw.answer_on(connection).status == 400
    assert [status.name for status in failpoints.statuses()] == ["a"]


def test_resetting_takes_no_query(open_url: str, raw: Any) -> None:
    """A query that would be ignored does not remove everything."""
    configure("a", "off")
    answer = raw.ask(open_url, "DELETE", f"{AT}?name=a")
    assert (answer.status, answer.msg) == (400, "unknown parameter 'name': expected none")
    assert raw.ask(open_url, "DELETE", AT, "Content-Length: 0").status == 200
    assert failpoints.statuses() == []


def test_resuming_with_nothing_or_json(open_url: str, raw: Any) -> None:
    """`resume` needs no body. A Content-Type of JSON is accepted as well."""
    configure("a", "off")
    for headers in [], ["Content-Length: 0"], ["Content-Type: application/json"]:
        assert raw.ask(open_url, "POST", f"{AT}/a/resume", *headers).json == {"resumed": 0}


# answers


def test_answers_reveal_nothing_about_the_machine(open_url: str, raw: Any) -> None:
    """No answer contains a directory, a traceback or a variable of the environment."""

    @failpoints.failpoint("revealing")
    def site() -> None:
        """Be a site in this file."""

    configure("revealing", "off", context={"file": __file__[-5:], "f": lambda value: True})
    site()
    answers = [
        raw.ask(open_url, "GET", path)
        for path in (AT, f"{AT}/revealing", f"{AT}/x", f"{AT}/%FF", "/", f"{AT}/revealing/wait?hits=9&timeout=0")
    ]
    answers += [
        raw.ask(open_url, "PUT", AT, "Content-Type: application/json", body=body)
        for body in (b"{", b'[{"name": "a", "actions": "raise(NoSuch"}]', b"\xff", b"[[]]")
    ]
    secrets = [str(Path.cwd()), str(Path(__file__).parent), "Traceback", os.environ.get("PATH", "?"), sys.prefix]
    for answer in answers:
        text = answer.body.decode() + str(answer.headers)
        assert not [secret for secret in secrets if secret in text], text


def test_headers_reveal_nothing(open_url: str, raw: Any) -> None:
    """The application adds only the headers of its JSON body."""
    headers = raw.ask(open_url, "GET", AT).headers
    assert set(headers) <= {"content-type", "content-length", "date", "server"}  # the last two come from uvicorn


def test_an_ordinary_client(open_url: str) -> None:
    """An ordinary HTTP client meets none of these rules."""
    connection = http.client.HTTPConnection(open_url.removeprefix("http://"), timeout=20)
    connection.request("PUT", AT, b"[]", {"Content-Type": "application/json"})
    assert connection.getresponse().read() == b"null"
    connection.close()
