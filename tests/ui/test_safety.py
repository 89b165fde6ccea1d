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
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[::2]"):
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
    ):
        done = fk.run("ui", *options)
        assert done.returncode == 2, options
        assert said in done.stderr.decode()
    fk.environment["FK_UI_TOKEN"] = "short"
    assert fk.run("ui", "--listen", "127.0.0.1:0", "--token").returncode == 2


def test_by_tls_the_cookie_is_secure(tmp_path: Path, certificate: tuple[str, str]) -> None:
    listen = ["--listen", "0.0.0.0:0", "--host", "127.0.0.1"]
    page = Page(tmp_path / "page", *listen, "--tls-cert", certificate[0], "--tls-key", certificate[1])
    assert page.address.startswith("https://")
    assert page.ask("GET", "/api/me").status == 401
    cookie = page.log_in(page.said["token"]).headers["Set-Cookie"]
    assert cookie.startswith("__Host-fk-ui=")
    assert "; Secure" in cookie
    answer = page.ask("GET", "/api/me")
    assert (answer.status, "Strict-Transport-Security" in answer.headers) == (200, True)
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
