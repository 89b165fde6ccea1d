"""What a person gives ``fk`` by mistake: one clear line, a status, and nothing done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from faaskeeper.cli.arguments import Amount, Size, Whole
from faaskeeper.cli.commands import COMMANDS
from faaskeeper.cli.context import Context
from faaskeeper.cli.main import fk as fk_command
from faaskeeper.cli.main import main
from faaskeeper.cli.shell import execute
from faaskeeper.config import Config


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    context = Context(Config.local(tmp_path / "data"))
    context.one_shot = False
    context.connect()
    context.client.create("/a", b"data")
    yield context
    context.close()


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("set /a", 2, "Missing argument 'VALUE'"),
        ("setAcl /a", 2, "Missing argument 'ACL'"),
        ("delete", 2, "Missing argument 'PATH'"),
        ("addauth digest", 2, "Missing argument 'CREDENTIAL': the prompt for it needs a terminal"),
        ("get /a true more", 2, "unexpected extra argument"),
        ("set /a -5", 2, "Put arguments that start with '-' after '--'"),
        ("set /a x 1 -v 1", 2, "as an argument or with --version, not both"),
        ("set /a x ٣", 2, "'٣' is not an integer from -1 to 2147483647"),
        ("set /a x 1_0", 2, "'1_0' is not an integer"),
        ("set /a x 99999999999999999999", 2, "is not an integer"),
        ("delete /a -v -2", 2, "'-2' is not an integer from -1"),
        ("create /x --ttl 0", 2, "'0' is not an integer from 1"),
        ("create /x --ttl ''", 2, "'' is not an integer"),
        ("get /a -w --timeout -1", 2, "'-1' is not a number from 0"),
        ("get /a -w --timeout nan", 2, "'nan' is not a number"),
        ("get /a -w --timeout inf", 2, "'inf' is not a number"),
        ("get /a -w --timeout 1e999", 2, "'1e999' is not a number"),
        ("create /n/m", 3, "/n/m has no parent: the node /n does not exist; -p creates it"),
        ("create /a/n/m", 3, "the node /a/n does not exist"),
        ("create //b", 2, "must not have an empty component: '//b'"),
        ("create /a/../b", 2, "must not have the component '..': '/a/../b'"),
        ("create /./b", 2, "must not have the component '.'"),
        ("create /a/", 2, "must not end with '/': '/a/'"),
        ("create ''", 2, "must not be empty"),
        ("get /a/../b", 2, "must not have the component '..'"),
        ("deleteall //", 2, "must not end with '/'"),
        ("delete /", 2, "/ is part of every tree"),
        ("delete /zookeeper", 2, "/zookeeper is part of every tree"),
        ("deleteall /", 2, "/ cannot be deleted: it is part of every tree"),
        ("create '/x\ny'", 2, "must not contain the character U+000A"),
        ("create /x --acl world:anyone:q", 2, "letters of cdrwa"),
        ("create /x --acl auth::r", 2, "'auth' needs 'addauth digest USER:PASSWORD' before"),
        ("addauth ip 1.2.3.4", 2, "use 'digest'"),
        ("digest user", 2, "a credential has the form USER:PASSWORD"),
        ("create /x -f ''", 2, "a file name must not be empty"),
        ("create /x -f 'a\0b'", 2, "must not contain a NUL character"),
        ("create /x -f /none", 1, "/none: No such file or directory"),
        ("create /x -f /", 1, "/: Is a directory"),
        ("create /x -f /dev/zero", 7, "/dev/zero has more than 1048576 bytes"),
    ],
)
def test_a_wrong_line_says_what_is_wrong_and_does_nothing(
    context: Context, capsys: pytest.CaptureFixture[str], line: str, status: int, message: str
) -> None:
    before = context.client.get_data("/a").stat
    assert execute(context, line) == status
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""
    assert context.client.get_data("/a").stat == before
    assert [each.path for each in context.client.get_children("/")] == ["/a", "/zookeeper"]


def test_data_may_be_empty_where_that_is_said(context: Context) -> None:
    assert execute(context, "set /a ''") == 0
    assert context.client.get_data("/a").data == b""
    assert execute(context, "create /b") == 0
    assert execute(context, "set /a -- -5") == 0
    assert context.client.get_data("/a").data == b"-5"
    assert execute(context, "create -s /a/") == 0


def test_a_refusal_by_an_acl_names_the_option(context: Context, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(context, "create /own x --acl digest:me:hash:cdrwa") == 0
    capsys.readouterr()
    for line in ("get /own", "set /own y", "create /own/c", "setAcl /own world:anyone:r"):
        assert execute(context, line) == 9
        assert "'addauth digest USER:PASSWORD'" in capsys.readouterr().err


def outside(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int | str | None, str]:
    """Exit status and last line of what ``fk`` says, in this process."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return end.value.code, capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "-5", "ls"], "'-5' is not an integer from -1 to 65535"),
        (["--port", "70000", "ls"], "'70000' is not an integer"),
        (["--port", "٣", "ls"], "'٣' is not an integer"),
        (["--directory", "", "ls"], "a directory name must not be empty"),
        (["--directory", "a\0b", "ls"], "NUL"),
        (["--config", "", "ls"], "a file name must not be empty"),
        (["--auth", "me", "ls"], "a credential of the scheme 'digest' must be 'user:password'"),
        (["cost", "--reads", "nan"], "'nan' is not a number from 0"),
        (["cost", "--writes", "-1"], "'-1' is not a number from 0"),
        (["cost", "--size", "-1"], "'-1' is not an integer from 0"),
        (["cost", "--clients", "1.5"], "'1.5' is not an integer"),
        (["serve", "--listen", "٣٣"], "'٣٣' is not an address"),
        (["serve", "--max-connections", "٣"], "'٣' is not an integer"),
        (["serve", "--cache", "64XB"], "'64XB' is not a size up to 1024GB, for example 64MB"),
        (["serve", "--cache", "-1"], "'-1' is not a size"),
        (["serve", "--cache", "2000GB"], "'2000GB' is not a size"),
        (["addauth", "digest", "me:pw"], "fk --auth USER:PASSWORD COMMAND"),
        (["connect"], "'connect' is a command of the shell"),
        (["lss"], "Did you mean 'ls'?"),
        (["deploy", "service", "o.json", "--config", "/none"], "cannot read /none"),
    ],
)
def test_a_wrong_command_line_says_what_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setenv("FK_DIRECTORY", str(tmp_path))
    status, said = outside(capsys, *arguments)
    assert status == 2
    assert message in said


ENDS = {"watch": "--timeout 0.01"}
"""What has a command end that waits for an interrupt."""
ODD = ("", "x" * 5000, "é", "-1", "/none", "/", "\x1b[31m", "٣", "\udcff", "a\0b")


def arguments_of(command: click.Command) -> int:
    return len([each for each in command.params if isinstance(each, click.Argument)])


@pytest.mark.parametrize("name", sorted(set(COMMANDS)))
def test_no_odd_word_in_any_place_is_a_traceback(
    context: Context, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Any exception but those that are for a person would come out of this."""
    for odd in ODD:
        for place in range(arguments_of(COMMANDS[name]) + 1):
            words = ["/a"] * place + [odd]
            quoted = " ".join(f"'{word}'" for word in words)
            line = f"{name} {ENDS.get(name, '')} {quoted}"
            assert execute(context, line) in (0, 1, 2, 3, 4, 6, 7, 8, 9), line
            assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(set(COMMANDS)))
def test_no_odd_value_of_any_option_is_a_traceback(
    context: Context, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for option in COMMANDS[name].params:
        if not isinstance(option, click.Option) or option.is_flag:
            continue
        for odd in ODD:
            line = f"{name} {ENDS.get(name, '')} /a {option.opts[-1]}='{odd}'"
            assert execute(context, line) in (0, 1, 2, 3, 4, 6, 7, 8, 9), line
            assert "\x1b" not in capsys.readouterr().err


def test_every_number_of_every_command_is_of_a_kind_that_is_checked() -> None:
    """click's own take other digits than ASCII ones, and floats that are none."""

    def commands(command: click.Command) -> Iterator[click.Command]:
        yield command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                each = command.get_command(context, name)
                assert each is not None
                yield from commands(each)

    kinds = [param.type for command in commands(fk_command) for param in command.params]
    assert not [
        each for each in kinds if isinstance(each, (click.types.IntParamType, click.types.FloatParamType))
    ]
    assert any(isinstance(each, Whole) for each in kinds)
    assert any(isinstance(each, Amount) for each in kinds)


@pytest.mark.parametrize(
    ("written", "size"),
    [("0", 0), ("1000", 1_000), ("3b", 3), ("64MB", 64 << 20), ("2k", 2_048), ("1GiB", 1 << 30)],
)
def test_a_size_is_a_number_of_bytes_with_a_unit(written: str, size: int) -> None:
    assert Size(1 << 40).convert(written, None, None) == size


@pytest.mark.parametrize(
    ("provider", "options", "message"),
    [
        ("aws", ["--cache", "1MB"], "--cache requires an embedded service or --reads memory"),
        ("aws", ["--follow", "100"], "--follow requires --reads memory"),
        ("local", ["--follow", "100"], "--follow requires --reads memory"),
        ("local", ["--reads", "memory", "--follow", "100"], "--follow is for a cloud; an embedded service"),
        ("aws", ["--reads", "memory", "--follow", "9"], "'9' is not an integer from 10 to 10000"),
        ("aws", ["--reads", "cache"], "'cache' is not one of 'storage', 'memory'"),
    ],
)
def test_options_of_reading_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], provider: str, options: list[str], message: str
) -> None:
    config = {"cloud-provider": provider, "deployment-name": "d", "deployment-region": "eu-west-1"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    status, said = outside(capsys, "serve", str(tmp_path / "config.json"), *options)
    assert status == 2
    assert message in said


def test_auth_outside_of_the_shell_is_the_option_that_an_acl_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FK_DIRECTORY", str(tmp_path))
    assert outside(capsys, "create", "/x", "--acl", "auth::r")[1].endswith(
        "--auth USER:PASSWORD or $FK_AUTH before)"
    )
