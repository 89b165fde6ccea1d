"""Who reaches the page, what is refused, and that no secret gets where it can be read."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import trustme
from starlette.routing import Mount, Route

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.acl import digest
from faaskeeper.ui.access import Access
from faaskeeper.ui.app import STATIC, application
from faaskeeper.ui.logins import Logins, Visit
from faaskeeper.ui.settings import Settings
from tests.cli.console import Fk
from tests.ui.pages import Page

WRITING = ("PUT", "POST", "DELETE", "PATCH")


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    return Fk(tmp_path)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    made = trustme.CA().issue_cert("127.0.0.1")
    names = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    made.cert_chain_pems[0].write_to_path(names[0])
    made.private_key_pem.write_to_path(names[1])
    return names


# ---- hosts, origins, headers -----------------------------------------------------------------------


def test_a_name_that_is_not_the_page_s_is_refused(page: Page) -> None:
    for host in (
        "evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]", "[::1]evil.example",
        "localhost:evil", "evil@localhost", "localhost/",
    ):  # fmt: skip
        headers = {"Host": host} if host else {"Host": " "}
        assert page.ask("GET", "/api/me", None, headers).status in (400, 421), host
    for host in ("localhost", f"127.0.0.1:{page.port}", "[::1]:1"):
        assert page.ask("GET", "/api/me", None, {"Host": host}).status == 200


def test_a_change_from_another_page_is_refused(page: Page) -> None:
    step = {"path": "/a"}
    own = f"http://127.0.0.1:{page.port}"
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://127.0.0.1:{page.port}"},
        {"Origin": f"http://127.0.0.1:{page.port + 1}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"X-FK-UI": ""},
    ):
        assert page.ask("POST", "/api/node", step, headers).status == 403, headers
        assert page.ask("GET", "/api/node", path="/a").status == 404
    assert page.ask("GET", "/api/me", None, {"Sec-Fetch-Site": "cross-site"}).status == 403
    assert page.ask("OPTIONS", "/api/node", None, {"Origin": "http://evil.example"}).status == 403
    assert page.ask("POST", "/api/node", step, {"Origin": own, "Sec-Fetch-Site": "same-origin"}).status == 200


def test_every_answer_has_a_strict_policy(page: Page) -> None:
    for path in ("/", "/static/main.js", "/api/me", "/api/none", "/none"):
        headers = page.ask("GET", path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] is None
        assert headers["Access-Control-Allow-Origin"] is None


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere() -> None:
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8")
        outside = {each for each in re.findall(r"https?://[\w./]+", text) if "www.w3.org" not in each}
        assert not outside, file
        if file.suffix == ".html":
            assert not re.search(r"<script>|<style| style=| on\w+=", text), file
        if file.suffix == ".js":
            for way in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "DOMParser"):
                assert way not in text, (file, way)


def test_files_of_the_server_are_not_served(page: Page) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/app.py", "/docs"):
        assert page.ask("GET", path).status == 404


# ---- read only -------------------------------------------------------------------------------------


def test_a_page_that_only_reads_has_no_route_that_writes(tmp_path: Path) -> None:
    config = Config.local(tmp_path / "service")

    def routes(settings: Settings) -> set[str]:
        visit = Visit(Access(config), settings)
        app = application(settings, Logins(settings, visit, lambda credential: Access(config)))
        found = set()
        for route in app.routes:
            assert isinstance(route, (Route, Mount))
            methods = getattr(route, "methods", None) or {"GET"}
            found |= {f"{method} {route.path}" for method in methods if method in WRITING}
        return found

    plain = Settings(("127.0.0.1", 1), ("localhost",))
    assert routes(plain._replace(read_only=True)) == set()
    assert routes(plain._replace(read_only=True, token="x")) == {"POST /login", "POST /logout"}
    assert "PUT /api/node" in routes(plain)


def test_a_page_that_only_reads_refuses_changes(tmp_path: Path) -> None:
    page = Page(tmp_path / "page", "--read-only")
    assert page.get("me")["read_only"]
    assert page.ask("POST", "/api/node", {"path": "/a"}).status == 405
    assert page.ask("PUT", "/api/node", b"", path="/", version=0).status == 405
    assert page.ask("POST", "/api/sessions/end", {}).status == 404
    assert page.ask("GET", "/api/node", path="/a").status == 404


# ---- logins ----------------------------------------------------------------------------------------


def test_a_token_opens_the_page_and_a_cookie_keeps_it_open(tmp_path: Path) -> None:
    page = Page(tmp_path / "page", "--token")
    token = page.said["token"]
    assert page.ask("GET", "/api/me").status == 401
    assert page.ask("GET", "/").headers["Location"] == "/login"
    assert page.ask("GET", "/login").status == 200
    assert page.ask("GET", "/static/main.js").status == 401
    assert page.log_in("wrong").status == 401
    answer = page.log_in(token)
    cookie = answer.headers["Set-Cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert token.lower() not in cookie
    assert page.ask("GET", "/api/me").status == 200
    assert page.ask("GET", "/api/me", None, {"Cookie": page.cookie + "x"}).status == 401
    assert page.ask("POST", "/logout").status == 200
    assert page.ask("GET", "/api/me").status == 401


def test_no_secret_is_in_a_log_and_a_token_of_one_s_own_is_not_printed(tmp_path: Path) -> None:
    token = "a-token-that-somebody-chose"
    page = Page(tmp_path / "page", "--token", environment={"FK_UI_TOKEN": token, "FK_AUTH": "me:password"})
    assert "token" not in page.said
    assert page.log_in("wrong-secret").status == 401
    assert page.log_in(token).status == 200
    assert page.ask("GET", "/api/me").json["identities"] == ["ip:127.0.0.1", "digest:me"]
    cookie = page.cookie.partition("=")[2]
    assert page.stop() == 0
    said = page.log.read_text()
    assert not any(secret in said for secret in (token, "password", "wrong-secret", cookie))


def test_a_login_takes_little(tmp_path: Path) -> None:
    page = Page(tmp_path / "page", "--token")
    assert page.log_in("x" * 100_000).status == 413
    assert page.ask("POST", "/login", b"[]").status == 400
    assert page.ask("POST", "/login", {"secret": 1}).status == 400
    assert {page.log_in(f"wrong {each}").status for each in range(12)} == {401}
    assert page.log_in(page.said["token"]).status == 200  # nobody is kept out by others' guesses


def test_digest_credentials_open_the_page_with_their_own_rights(tmp_path: Path) -> None:
    config = Config.local(tmp_path / "page" / "data", "page")
    with FaaSKeeperClient(config) as client:
        client.add_auth("digest", "alice:secret")
        mine = (31, "digest", digest("alice:secret"))
        client.create("/gate", acl=[mine, (1, "digest", digest("bob:hidden"))])
        client.create("/mine", b"alice's", acl=[mine])
    page = Page(tmp_path / "page", "--login-node", "/gate")
    for user, password in (("alice", "wrong"), ("mallory", "secret"), ("", "secret"), ("alice:", "x")):
        assert page.log_in(password, user).status == 401, user
    assert page.ask("GET", "/api/node", path="/").status == 401
    assert page.log_in("secret", "alice").status == 200
    alice = page.cookie
    assert page.get("node", path="/mine")["rights"]["write"]
    first = page.get("me")
    page.cookie = ""
    assert page.log_in("hidden", "bob").status == 200
    second = page.get("me")
    assert (first["identities"][-1], second["identities"][-1]) == ("digest:alice", "digest:bob")
    assert first["session"] != second["session"]
    assert page.get("node", path="/mine")["data"] is None
    busy = [each["path"] for each in page.get("service")["paths"]]
    assert {"/gate", "/mine"} <= set(busy)  # their parent lists them to everybody
    page.cookie = alice
    assert page.get("me")["session"] == first["session"]


def test_who_guesses_passwords_is_not_listened_to(tmp_path: Path) -> None:
    config = Config.local(tmp_path / "page" / "data", "page")
    with FaaSKeeperClient(config) as client:
        client.create("/gate", acl=[(31, "digest", digest("alice:secret"))])
    page = Page(tmp_path / "page", "--login-node", "/gate")
    assert {page.log_in(f"wrong {each}", "alice").status for each in range(10)} == {401}
    assert page.log_in("secret", "alice").status == 429


def test_who_guesses_keeps_nobody_else_out(tmp_path: Path) -> None:
    config = Config.local(tmp_path / "page" / "data", "page")
    with FaaSKeeperClient(config) as client:
        client.create("/gate", acl=[(31, "digest", digest("alice:secret"))])
    page = Page(tmp_path / "page", "--behind-proxy", "--host", "fk.example.org", "--login-node", "/gate")

    def log_in(password: str, address: str) -> int:
        headers = {"Host": "fk.example.org", "X-Forwarded-For": f"192.0.2.77, {address}"}
        return page.ask("POST", "/login", {"user": "alice", "secret": password}, headers).status

    assert {log_in(f"wrong {each}", f"2001:db8::{each}") for each in range(10)} == {401}  # one network
    assert log_in("secret", "2001:db8::77") == 429
    assert log_in("secret", "203.0.113.9") == 200


def test_a_gate_that_an_address_opens_is_refused(fk: Fk) -> None:
    fk.said("create", "/gate", "--acl", "digest:alice:x=:cdrwa,ip:127.0.0.1:r")
    done = fk.run("ui", "--listen", "127.0.0.1:0", "--login-node", "/gate")
    assert (done.returncode, done.stderr[:26]) == (2, b"fk: everybody may read /ga")


def test_a_gate_that_is_opened_later_lets_nobody_in(tmp_path: Path) -> None:
    config = Config.local(tmp_path / "page" / "data", "page")
    mine = (31, "digest", digest("alice:secret"))
    with FaaSKeeperClient(config) as client:
        client.create("/gate", acl=[mine])
    page = Page(tmp_path / "page", "--login-node", "/gate")
    assert page.log_in("secret", "alice").status == 200
    with FaaSKeeperClient(Config.load(page.file)) as client:
        client.add_auth("digest", "alice:secret")
        client.set_acls("/gate", [mine, (1, "world", "anyone")])
        for user, password in (("mallory", "any"), ("alice", "secret")):
            answer = page.log_in(password, user)
            assert answer.status == 403
            assert "everybody may read /gate" in answer.json["error"]


def test_a_cookie_of_another_program_on_this_machine_is_in_nobody_s_way(tmp_path: Path) -> None:
    page = Page(tmp_path / "page", "--token")
    page.log_in(page.said["token"])
    for other in ('settings={"a": [1, 2]}', "x=\x01;;y", "=", 'q="'):
        assert page.ask("GET", "/api/me", None, {"Cookie": f"{other}; {page.cookie}"}).status == 200, other


def test_a_port_that_a_proxy_names_makes_no_other_page(tmp_path: Path) -> None:
    page = Page(tmp_path / "page", "--behind-proxy", "--host", "fk.example.org")
    for host, origin, status in (
        ("fk.example.org:443", "https://fk.example.org", 200),
        ("FK.example.org", "https://fk.example.org", 200),
        ("fk.example.org", "https://fk.example.org:444", 403),
        ("fk.example.org:8443", "https://fk.example.org", 403),
        ("fk.example.org", "null", 403),
    ):
        headers = {"Host": host, "Origin": origin}
        assert page.ask("POST", "/login", {"secret": page.said["token"]}, headers).status == status, host


def test_odd_requests_get_an_answer_and_no_traceback(page: Page) -> None:
    half = b'{"path": "/a", "acl": "digest:\\ud800:x:r", "user": "\\ud800", "secret": "\\udfff"}'
    assert page.ask("POST", "/api/node", half).status == 400
    assert page.ask("POST", "/api/node", b"[" * 100_000).status == 400
    assert page.ask("POST", "/api/node", b'{"ttl": 1' + b"0" * 5000 + b"}").status == 400
    huge = 10**30
    for path, at in (
        ("/", huge), ("/", -huge), ("/", "1" * 5000), ("/", -1), ("/\0", 1), ("/" + "a" * 5000, 1),
        ("/a/../b", 1), ("/a\r\nX: y", 1), (b"/\xed\xa0\x80", 1), (b"/\xff", 1),
    ):  # fmt: skip
        for route in ("past/node", "past/children", "past/download"):
            assert page.ask("GET", f"/api/{route}", path=path, at=at).status in (400, 404, 410), (route, path)
    for number in (huge, -huge, -1, 2**63 - 1, 0):
        for name in ("at", "time"):
            assert page.ask("GET", "/api/past/moment", **{name: number}).status in (200, 400), (name, number)
        assert page.ask("GET", "/api/contenders", path="/", semaphore=number).status in (200, 400)
        assert page.ask("GET", "/api/past/history", path="/", until=number, limit=1).status in (200, 400)
        for op in ("set", "delete", "check"):
            steps = {"steps": [{"op": op, "path": "/zookeeper", "version": number}]}
            assert page.ask("POST", "/api/transaction", steps).status in (200, 400, 403, 409)
        assert page.ask("DELETE", "/api/node", path="/zookeeper", version=number).status in (400, 409)
        made = page.ask("POST", "/api/node", {"path": "/t", "ttl": number}).status
        assert made in (200, 400, 409), number
        assert page.ask("POST", "/api/past/restore", {"path": "/a", "at": number}).status in (400, 404, 410)
        acl = {"acl": "world:anyone:cdrwa"}
        expected = (200, 409) if number == 0 else (400, 409)
        assert page.ask("PUT", "/api/acl", acl, path="/", version=number).status in expected, number
    for session in ("", "x", "-1", "f" * 40, "\u0661"):
        asked = {"session": session, "again": session}
        assert page.ask("POST", "/api/sessions/end", asked).status in (200, 400, 403), session
    for since in ("-1", "x", "9" * 19, "9" * 100):
        connection = page.connect()
        connection.request("GET", "/api/events", headers={"Last-Event-ID": since})
        answer = connection.getresponse()
        assert answer.status == 200
        while not answer.readline().startswith(b"data"):
            pass
        connection.close()
    assert page.get("me")["session"]
    assert page.stop() == 0
    assert "Traceback" not in page.log.read_text()


def test_a_change_of_a_page_of_another_deployment_is_refused(tmp_path: Path, page: Page) -> None:
    other = Page(tmp_path / "other", "--read-only")
    mine, theirs = page.get("me")["page"], other.get("me")["page"]
    assert mine != theirs
    assert page.ask("POST", "/api/node", {"path": "/a"}, {"X-FK-UI-Page": theirs}).status == 409
    assert page.ask("GET", "/api/node", path="/a").status == 404
    assert page.ask("POST", "/api/node", {"path": "/a"}, {"X-FK-UI-Page": mine}).status == 200


def test_who_logs_out_hears_no_more(tmp_path: Path) -> None:
    page = Page(tmp_path / "page", "--token")
    page.log_in(page.said["token"])
    stream = page.events()
    next(stream)
    assert page.ask("POST", "/logout").status == 200
    assert list(stream) == []


def test_a_gate_that_is_open_or_not_there_is_refused(fk: Fk) -> None:
    done = fk.run("ui", "--listen", "127.0.0.1:0", "--login-node", "/none")
    assert (done.returncode, done.stderr) == (3, b"fk: the node /none does not exist\n")
    fk.said("create", "/open")
    done = fk.run("ui", "--listen", "127.0.0.1:0", "--login-node", "/open")
    assert done.returncode == 2
    assert done.stderr.startswith(b"fk: everybody may read /open")


# ---- how it is started -------------------------------------------------------------------------------


def test_others_reach_the_page_only_by_tls_or_a_proxy_and_with_a_login(fk: Fk) -> None:
    for options, said in (
        (["--listen", "0.0.0.0:0"], "others reach 0.0.0.0"),
        (["--listen", "192.0.2.1:0"], "others reach 192.0.2.1"),
        (["--listen", "0.0.0.0:0", "--behind-proxy"], "with --host NAME"),
        (["--listen", "127.0.0.1:0", "--behind-proxy"], "with --host NAME"),
        (["--tls-cert", "x"], "--tls-cert and --tls-key"),
        (["--host", "https://fk.example.org"], "is not a name"),
        (["--host", "fk.example.org:443"], "is not a name"),
        (["--listen", "127.0.0.1:0", "--host", "fk.example.org"], "others reach fk.example.org"),
    ):
        done = fk.run("ui", *options)
        assert done.returncode == 2, options
        assert said in done.stderr.decode()
    fk.environment["FK_UI_TOKEN"] = "short"
    assert fk.run("ui", "--listen", "127.0.0.1:0", "--token").returncode == 2


def test_by_tls_the_cookie_is_secure(tmp_path: Path, certificate: tuple[str, str]) -> None:
    listen = ["--listen", "0.0.0.0:0", "--host", "127.0.0.1", "--host", "fk.example.org"]
    page = Page(tmp_path / "page", *listen, "--tls-cert", certificate[0], "--tls-key", certificate[1])
    assert page.address == f"https://127.0.0.1:{page.port}/"  # not 0.0.0.0, a name that is refused
    assert page.ask("GET", "/api/me").status == 401
    cookie = page.log_in(page.said["token"]).headers["Set-Cookie"]
    assert cookie.startswith(f"__Host-fk-ui-{page.port}=")  # other pages of this machine have others
    assert "; Secure" in cookie
    for host, lasting in (("127.0.0.1", False), ("fk.example.org", True)):  # not for all of this machine
        answer = page.ask("GET", "/api/me", None, {"Host": host})
        assert (answer.status, "Strict-Transport-Security" in answer.headers) == (200, lasting)
    own = f"https://127.0.0.1:{page.port}"
    assert page.ask("POST", "/api/node", {"path": "/a"}, {"Origin": own}).status == 200


def test_behind_a_proxy_its_name_and_https_count(tmp_path: Path) -> None:
    page = Page(tmp_path / "page", "--behind-proxy", "--host", "fk.example.org")
    by_name = {"Host": "fk.example.org", "Origin": "https://fk.example.org"}
    answer = page.ask("POST", "/login", {"secret": page.said["token"]}, by_name)
    assert answer.status == 200
    assert "; Secure" in answer.headers["Set-Cookie"]
    plain = {**by_name, "Origin": "http://fk.example.org"}
    assert page.ask("POST", "/login", {"secret": page.said["token"]}, plain).status == 403


def test_what_is_missing_or_taken_is_one_clear_line(fk: Fk, page: Page) -> None:
    done = fk.run("ui", "--listen", f"127.0.0.1:{page.port}")
    assert (done.returncode, done.stderr) == (
        1,
        f"fk: 127.0.0.1:{page.port}: Address already in use\n".encode(),
    )
    without = "import sys; sys.modules['uvicorn'] = None; from faaskeeper.cli.main import main; main(['ui'])"
    done = fk.run(command=[sys.executable, "-c", without])
    assert done.returncode == 1
    assert done.stderr == b"fk: the package 'uvicorn' is not installed: pip install 'faaskeeper[ui]'\n"
