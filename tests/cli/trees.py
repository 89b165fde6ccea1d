"""What commands on znodes and on trees do, on any deployment: run with its ``fk``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from faaskeeper.client import FaaSKeeperClient

MANY = 140
"""More children than a record lists itself."""


def commands_on_trees_work(client: FaaSKeeperClient, fk: Callable[..., str], kinds: bool = True) -> None:
    """``fk`` takes arguments and ``stdin``, and returns what was printed if all was well.

    ``kinds``: whether a Stat tells containers and times to live; a ZooKeeper server's does not.
    """
    client.create("/app", b"root", container=True)
    client.create("/app/large", b"needle" * 20_000)
    client.create("/app/ttl", b"x", ttl=3_600_000)
    client.create("/app/many")
    for begin in range(0, MANY, 70):
        with client.transaction() as transaction:
            for number in range(begin, begin + 70):
                transaction.create(f"/app/many/{number:04d}", b"%d" % number)
    client.create("/app/here", ephemeral=True)
    names = [f"{number:04d}" for number in range(MANY)]
    assert sorted(node.path[-4:] for node in client.iter_children("/app/many")) == names

    if kinds:
        assert fk("find", "/app", "--type", "ttl", "--type", "container").split() == ["/app", "/app/ttl"]
    assert fk("find", "/app", "--type", "ephemeral").split() == ["/app/here"]
    assert fk("ls", "-R", "/app/many").split()[1:] == [f"/app/many/{name}" for name in names]
    assert fk("grep", "-l", "needle", "/app", "--depth", "1").split() == ["/app/large"]
    total = json.loads(fk("du", "-s", "/app", "--json"))
    assert total["nodes"] == MANY + 5
    assert json.loads(fk("cp", "-r", "/app", "/copy", "--json"))["ephemerals"] == ["/app/here"]
    assert fk("du", "-s", "--nodes", "/copy") == f"{MANY + 4}\t/copy\n"
    said = fk("mv", "/copy/many", "/many")
    assert f"Moved {MANY + 1} nodes to /many in steps" in said
    assert "Moved 3 nodes to /moved in one transaction" in fk("mv", "/copy", "/moved")
    moved = client.exists("/moved/ttl")
    assert moved is not None
    assert not kinds or moved.ttl == 3_600_000
    assert client.get_data("/moved/large").data == b"needle" * 20_000
    assert "Set /app, version 1" in fk("txn", stdin="check /app 0\nset /app new\n")


def commands_on_znodes_work(shell: Callable[[bytes], str]) -> None:
    """``shell`` takes the lines for an ``fk shell``, and returns what was printed if all was well."""
    said = shell(
        rb"""
        create /app/config '{"a": 1}' -p
        create /app/e- -e -s
        create /app/box --container
        create /app/short --ttl 100000
        exists /app/config
        get /app/config
        get /app/config --json
        set /app/config two
        set /app/config three 1
        stat /app/config
        ls /app
        getChildren /app -i
        tree /app
        getEphemerals /
        getAllChildrenNumber /app
        addauth digest user:pw
        setAcl /app/box auth::cdrwa
        getAcl /app/box
        addWatch /app -r
        set /app/config four
        sync /
        removeWatches /app
        cd app
        get config
        delete config
        deleteall /app
        ls /
        """
    )
    for part in (
        "Created /app/config\n",
        '{"a": 1}\n',
        "Set /app/config, version 2\n",
        "dataLength = 5\n",
        "\u251c\u2500\u2500 config\n",
        "/app/e-0000000001\n4\n",
        "digest:user:",
        "WatchedEvent type: NodeDataChanged path: /app/config\n",
        "\nfour\n",
        "Deleted 4 nodes\n",
    ):
        assert part in said, said
    assert said.endswith("zookeeper\n")


def trees_move_between_deployments(fk: Callable[..., str], config: Path, directory: Path) -> None:
    """By a dump and by a mirror, to an embedded service in ``directory`` and back. ``config``: of ``fk``."""
    dump, here = directory / "dump", directory / "here.json"
    embedded = {"cloud-provider": "local", "deployment-name": "here", "directory": str(directory / "here")}
    here.write_text(json.dumps(embedded))
    fk("create", "/moving/node", "text", "--parents")
    fk("create", "/moving/ttl", "x", "--ttl", "3600000")
    fk("export", "--to", str(dump))
    fk("import", "--from", str(dump), "--below", "/imported", "--json")
    assert fk("get", "/imported/moving/node") == "text\n"
    fk("mirror", f"{config}:/moving", f"{here}:/moved")
    fk("set", "/moving/node", "later")
    assert "set /moved/node" in fk("mirror", f"{config}:/moving", f"{here}:/moved", "--dry-run")
    there = json.loads(
        fk("mirror", f"{config}:/moving", f"{here}:/moved", "--cut-over", "--quiet", "0", "--json")
    )
    assert there["znodes"] == 3
    back = ("mirror", f"{here}:/moved", f"{config}:/back", "--cut-over", "--quiet", "0", "--json")
    assert json.loads(fk(*back))["digest"] == there["digest"]
    assert fk("get", "/back/node") == "later\n"
