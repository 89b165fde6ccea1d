"""The unit for systemd, the Dockerfile and the compose file fit the package that they run."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import yaml

from faaskeeper.cli.commands import DEPLOYMENT_COMMANDS
from faaskeeper.testing.patience import PATIENCE_S
from tests.backends import needs

ROOT = Path(__file__).parent.parent.parent
UNIT = ROOT / "deploy" / "systemd" / "faaskeeper.service"
CONTAINER = ROOT / "deploy" / "container"
DOCKERFILE = (CONTAINER / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((CONTAINER / "compose.yaml").read_text())["services"]["faaskeeper"]


def parsed(words: list[str]) -> click.Context:
    """The command of ``fk`` that these words call, its options checked."""
    assert words[0].rsplit("/", 1)[-1] == "fk"
    return DEPLOYMENT_COMMANDS[words[1]].make_context(words[1], words[2:])


def test_each_starts_a_server_and_asks_it_for_its_health() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    assert parsed(shlex.split(unit["Service"]["ExecStart"])).params["listen"] == (("127.0.0.1", 2181),)
    assert unit["Service"]["Type"] == "notify"
    entry, command = (yaml.safe_load(re.search(rf"^{word} (.*)$", DOCKERFILE, re.MULTILINE)[1])  # type: ignore[index]
                      for word in ("ENTRYPOINT", "CMD"))  # fmt: skip
    assert parsed([*entry, *command]).params["listen"] == (("0.0.0.0", 2181),)
    check = re.search(r"^HEALTHCHECK .* CMD (.*)$", DOCKERFILE, re.MULTILINE)
    assert check is not None
    assert parsed(yaml.safe_load(check[1])).params["address"] == "127.0.0.1:2181"
    assert ["CMD", *yaml.safe_load(check[1])] == COMPOSE["healthcheck"]["test"]


def test_the_image_has_what_it_is_made_from_and_its_volume() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists()
            assert f"!{name}" in ignored
    (volume,) = re.findall(r"^VOLUME (\S+)$", DOCKERFILE, re.MULTILINE)
    assert f"FK_DIRECTORY={volume}/" in DOCKERFILE
    assert COMPOSE["volumes"] == [f"data:{volume}"]
    assert (ROOT / COMPOSE["build"]["dockerfile"]).is_file()
    assert (CONTAINER / COMPOSE["build"]["context"]).resolve() == ROOT


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    needs("systemd-analyze", shutil.which("systemd-analyze"), "Debian's package systemd has it")
    made = tmp_path / "faaskeeper.service"
    made.write_text(UNIT.read_text().replace("/opt/faaskeeper/bin/fk", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(made)],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
