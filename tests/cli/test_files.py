"""Files that ``fk`` writes are whole, and those that it reads are checked before anything is done."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.cli import restoring, snapshots
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import Failed, report
from faaskeeper.cli.files import replacing
from faaskeeper.cli.shell import execute
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.acl import ADMIN, READ
from faaskeeper.core.requests import NO_DATA
from faaskeeper.exceptions import NoAuthException, ProviderException
from faaskeeper.providers.local.database import Owner
from tests.cli.console import ROOT, Fk

HEAD = {"faaskeeper": 1, "zxid": 1}
ROOT_ROW = {"path": "/", "text": ""}


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    return Fk(tmp_path)


def dump(*rows: dict[str, Any], number: int | None = None) -> bytes:
    """A dump of these znodes and the root."""
    head = {**HEAD, "znodes": len(rows) + 1 if number is None else number}
    return "".join(json.dumps(each) + "\n" for each in (head, ROOT_ROW, *rows)).encode()


def read(text: bytes) -> restoring.Dump:
    return restoring.read(io.BytesIO(text))


# ---- written -------------------------------------------------------------------------------------


def test_a_file_takes_the_others_place_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    with pytest.raises(TypeError), replacing(path) as file:
        file.writelines(["half", 1])  # type: ignore[list-item]
    assert path.read_text() == "old"
    with replacing(path) as file:
        file.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_stays_one_and_a_device_is_written_to_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with replacing(tmp_path / "link") as file:
        file.write("x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "x"
    (tmp_path / "full").symlink_to("/dev/full")
    with (
        pytest.raises(OSError, match="No space left on device") as raised,
        replacing(tmp_path / "full") as file,
    ):
        file.write("x")
    assert raised.value.filename == "/dev/full"
    assert (tmp_path / "full").is_symlink()
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_an_export_that_cannot_be_written_is_an_error_of_one_line(fk: Fk, tmp_path: Path) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    for out, message in (
        (tmp_path / "none" / "out", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "full", "/dev/full: No space left on device"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        done = fk.run("export", "--to", str(out))
        assert done.returncode == 1
        assert message in done.stderr.decode()
        assert done.stderr.count(b"\n") == 1
    assert not list(tmp_path.glob(".fk*"))


# ---- read ----------------------------------------------------------------------------------------

WRONG = [
    (b"", "not a dump of 'fk export'"),
    (b"root:x:0:0\n", "not a dump of 'fk export'"),
    (b'{"a": 1}\n', "not a dump of 'fk export'"),
    (b"[]\n", "not a dump of 'fk export'"),
    (b"\xff\xfe\x00", "not a dump of 'fk export'"),
    (b"[" * 100_000, "not a dump of 'fk export'"),
    (b'{"faaskeeper": 99}\n', "cannot read a dump of format 99"),
    (dump()[:20], "not a dump of 'fk export'"),
    (dump({"path": "/a", "text": ""}, number=9), "promises 9 znodes, it has 2"),
    (dump({"path": "/a", "text": ""}).splitlines(keepends=True)[0], "promises 2 znodes, it has 0"),
    (dump({"path": "/a/b", "text": ""}), "the parent of /a/b is missing"),
    (
        dump({"path": "/a", "text": ""}, {"path": "/a", "text": ""}),
        "line 4 of the dump is invalid: /a occurs",
    ),
    (dump({"path": "/a"}), "line 3 of the dump is invalid: it must have either 'text' or 'data'"),
    (dump({"path": "/a", "text": "", "data": ""}), "either 'text' or 'data'"),
    (dump({"path": "/a", "data": "#"}), "line 3 of the dump is invalid"),
    (dump({"path": "/a", "data": None}), "the data is not text"),
    (dump({"path": "/a", "text": "\ud800"}), "line 3 of the dump is invalid"),
    (dump({"path": "/a", "text": "x" * (2**20 + 1)}), "the limit is 1048576"),
    (dump({"path": "/a/../b", "text": ""}), "must not have the component '..'"),
    (dump({"path": "a", "text": ""}), "must begin with '/'"),
    (dump({"path": 1, "text": ""}), "the path is 1"),
    (dump({"path": "/zookeeper/quota", "text": ""}), "is reserved for the service"),
    (dump({"path": "/a", "text": "", "extra": 1}), "the key 'extra' is unknown"),
    (dump({"path": "/a", "text": "", "sequence": -1}), "the sequence is -1"),
    (dump({"path": "/a", "text": "", "ttl": -5}), "a time to live"),
    (dump({"path": "/a", "text": "", "ephemeral": 1}), "the value of 'ephemeral' is 1"),
    (dump({"path": "/a", "text": "", "acl": [[99, "world", "anyone"]]}), "line 3 of the dump is invalid"),
    (dump({"path": "/a", "text": "", "acl": "x"}), "the ACL is 'x'"),
    (dump() + b'{"path": "/a", "path": "/b", "text": ""}\n', "the key 'path' occurs twice"),
    (dump() + b'{"path": "/a", "text": "", "version": NaN}\n', "NaN is not a number"),
    (dump() + b"[]\n", "it is not a JSON object"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_no_dump_is_refused_with_the_line_that_is_wrong(text: bytes, message: str) -> None:
    with pytest.raises(ProviderException) as refused:
        read(text)
    assert message in str(refused.value)


def test_a_dump_may_begin_with_a_byte_order_mark() -> None:
    assert [row.path for row in read(b"\xef\xbb\xbf" + dump({"path": "/a", "text": ""})).rows] == ["/", "/a"]


def test_no_dump_is_said_before_a_session_is_opened(fk: Fk, tmp_path: Path) -> None:
    for source in ("/etc/passwd", "/none", str(tmp_path)):
        done = fk.run("import", "--from", source)
        assert done.returncode == 1
        assert done.stderr.decode().startswith(f"fk: {source}: ")
        assert done.stderr.count(b"\n") == 1
    assert not (fk.directory / "data").exists()


def test_nothing_is_imported_where_something_is_in_the_way(client: FaaSKeeperClient) -> None:
    client.create("/b", b"mine")
    text = dump({"path": "/a", "text": "a"}, {"path": "/b", "text": "b"}, {"path": "/b/c", "text": "c"})
    with pytest.raises(Failed, match=r"1 of the dump's 4 znodes exist: /b. Nothing was imported") as refused:
        restoring.load(client, read(text), False)
    assert refused.value.status == 4
    assert [each.path for each in client.get_children("/")] == ["/b", "/zookeeper"]
    done = restoring.load(client, read(text), True)
    assert (done.created, done.replaced) == (2, 2)
    assert client.get_data("/b").data == b"b"


def test_data_of_the_root_is_in_the_way_too(client: FaaSKeeperClient) -> None:
    client.set_data("/", b"mine")
    with pytest.raises(Failed, match="znodes exist: /"):
        restoring.load(client, read(dump({"path": "/a", "text": "a"})), False)
    assert client.exists("/a") is None
    assert client.get_data("/").data == b"mine"


def many(number: int) -> restoring.Dump:
    return read(dump(*({"path": f"/n{each:04d}", "text": "x"} for each in range(number))))


def test_an_import_that_fails_in_the_middle_says_how_far_it_came(client: FaaSKeeperClient) -> None:
    def call(function: Callable[[], Any]) -> Any:
        result = function()
        if client.exists("/n0048") is not None and client.exists("/n0149") is None:
            client.create("/n0149")  # somebody is faster
        return result

    with pytest.raises(Failed) as failed:
        restoring.load(client, many(200), False, call)
    assert failed.value.status == 4
    said = str(failed.value)
    number = int(said.split("Imported ")[1].split()[0])
    there = [each.path for each in client.get_children("/") if each.path not in ("/zookeeper", "/n0149")]
    assert len(there) == number - 1  # and the root
    assert f"up to {there[-1]}: repeat with --overwrite" in said
    restoring.load(client, many(200), True)
    assert len(client.get_children("/")) == 201


def test_a_small_dump_is_imported_as_one_transaction(client: FaaSKeeperClient) -> None:
    before = client.create("/before").stat.czxid
    restoring.load(client, many(40), False)
    txids = {client.get_data(f"/n{each:04d}").stat.czxid for each in range(40)}
    assert txids == {before + 1}


def test_an_interrupted_import_says_how_far_it_came(
    client: FaaSKeeperClient, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(function: Callable[[], Any]) -> Any:
        if client.exists("/n0090") is not None:
            raise KeyboardInterrupt
        return function()

    with pytest.raises(KeyboardInterrupt) as interrupted:
        restoring.load(client, many(200), False, call)
    assert report(interrupted.value) == 130
    assert "fk: interrupted. Imported at least 100 of 201 znodes, up to /n0098" in capsys.readouterr().err


def test_no_data_at_all_and_control_characters_survive(client: FaaSKeeperClient, tmp_path: Path) -> None:
    texts = {"/c1": "\x9b31m\u2028\u202e\x7f", "/nul": "\0\\u0000"}
    for path, text in texts.items():
        client.create(path, text.encode())
    client.commit([client.transaction().create("/none").parts[0]._replace(data=NO_DATA)])
    out = io.StringIO()
    assert client._connection is not None
    snapshots.dump(snapshots.take(client, client.connection), out)
    assert not {"\x9b", "\x7f", "\u202e"} & set(out.getvalue())
    with FaaSKeeperClient(Config.local(tmp_path / "other")) as other:
        restoring.load(other, read(out.getvalue().encode()), False)
        assert {path: other.get_data(path).data.decode() for path in texts} == texts
        assert other.get_data("/none").serialize()["data"] is None


def test_an_acl_that_forbids_to_import_is_told_with_what_was_done(client: FaaSKeeperClient) -> None:
    client.set_acls("/", [(READ | ADMIN, "world", "anyone")])
    with pytest.raises(Failed, match="Nothing was imported") as failed:
        restoring.load(client, many(2), False)
    assert failed.value.status == 9
    assert isinstance(failed.value.__cause__, NoAuthException)


def test_data_of_files_is_taken_as_it_is(fk: Fk, tmp_path: Path) -> None:
    marked = b"\xef\xbb\xbf\xff\r\n"
    (tmp_path / "file").write_bytes(marked)
    fk.said("create", "/a", "--file", str(tmp_path / "file"))
    assert fk.run("get", "/a", "--raw").stdout == marked


# ---- packages that are not there --------------------------------------------------------------------

BLOCKED = """
import sys
for name in ("boto3", "botocore", "google", "grpc", "requests", "flask", "prometheus_client", "uvloop"):
    sys.modules[name] = None
from faaskeeper.cli.main import main
main()
"""
CLOUDS = {
    "aws": {"deployment-region": "us-east-1", "aws": {"data-bucket": "b", "worker-queue-url": "http://x/q"}},
    "gcp": {
        "deployment-region": "us-east1",
        "gcp": {"project-id": "p", "data-bucket": "b", "worker-topic": "t"},
    },
}


@pytest.fixture(params=sorted(CLOUDS))
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Name of a provider, and the file of a configuration for it."""
    name: str = request.param
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps({"cloud-provider": name, "deployment-name": "some", **CLOUDS[name]}))
    return name, str(path)


@pytest.mark.parametrize(
    "command",
    [
        "-c FILE get /a",
        "doctor FILE",
        "deadletters FILE",
        "export FILE",
        "serve FILE --listen 127.0.0.1:0",
        "deploy service out.json --config FILE --yes",
        "deploy functions out.json --config FILE --yes",
    ],
)
def test_an_extra_that_is_missing_is_one_line_with_what_to_install(
    fk: Fk, cloud: tuple[str, str], command: str
) -> None:
    name, path = cloud
    words = command.replace("FILE", path).split()
    done = fk.run(*words, command=[sys.executable, "-c", BLOCKED])
    assert done.returncode == 1
    assert done.stderr.decode().endswith(f"is not installed: pip install 'faaskeeper[{name}]'\n")
    assert done.stderr.count(b"\n") == 1


def test_metrics_without_their_package_are_one_line(fk: Fk) -> None:
    done = fk.run(
        *("serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"),
        command=[sys.executable, "-c", BLOCKED],
    )
    assert done.returncode == 1
    assert "pip install 'faaskeeper[gateway]'" in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_a_client_says_which_extra_its_configuration_needs(cloud: tuple[str, str]) -> None:
    name, path = cloud
    program = BLOCKED.split("from faaskeeper")[0] + (
        "from faaskeeper.client import FaaSKeeperClient\n"
        "from faaskeeper.config import Config\n"
        "from faaskeeper.exceptions import ProviderException\n"
        f"try: FaaSKeeperClient(Config.load({path!r})).start()\n"
        "except ProviderException as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert f"pip install 'faaskeeper[{name}]'" in done.stdout


# ---- files that cannot be used ------------------------------------------------------------------------


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    context = Context(Config.local(tmp_path / "data"))
    yield context
    context.close()


def test_a_directory_that_is_a_file_or_in_use_is_an_error_of_one_line(fk: Fk, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    owner = Owner(str(tmp_path / "data"))
    owner.acquire()  # as a restore does: nobody can join
    try:
        for directory in (tmp_path / "data", tmp_path / "file", tmp_path / "file" / "below", Path("/proc/x")):
            done = fk.run("--directory", str(directory), "ls")
            assert done.returncode in (1, 2), directory
            assert done.stderr.count(b"\n") == 1, done.stderr
    finally:
        owner.release()


def test_a_directory_that_another_program_uses_is_used_together(context: Context, fk: Fk) -> None:
    context.one_shot = False
    assert execute(context, "create /a") == 0
    assert fk.said("ls") == "a\nzookeeper\n"


@pytest.mark.parametrize("name", sorted(CLOUDS))
def test_a_deployment_begins_with_what_can_be_found_out_here(fk: Fk, tmp_path: Path, name: str) -> None:
    """A configuration that cannot be written, and credentials that are not there, are one line each."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"cloud-provider": name, "deployment-name": "some", **CLOUDS[name]}))
    for variable in [each for each in fk.environment if each.startswith(("AWS_", "GOOGLE_"))]:
        del fk.environment[variable]
    nowhere = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", "NO_GCE_CHECK": "true"}
    fk.environment.update(nowhere)
    for out, said in (("none/out.json", "No such file or directory"), ("out.json", "no credentials for")):
        done = fk.run("deploy", "service", str(tmp_path / out), "--config", str(path), "--yes")
        assert done.returncode == 1
        assert said in done.stderr.decode()
        assert "Traceback" not in done.stderr.decode()
        assert not (tmp_path / out).exists()
