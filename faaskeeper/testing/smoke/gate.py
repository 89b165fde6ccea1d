"""The gate's steps, in their order, and what happens when one fails or is interrupted.

Whatever happens, what was made is removed, and the account's own lists show what is left. The
command that does the same for a run that was killed is printed before anything is made, and works
from the run's directory alone.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import faaskeeper
from faaskeeper.config import Config, strict_json
from faaskeeper.core.errors import DriverError
from faaskeeper.deploy.providers import translated_errors
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.testing.smoke import suites, timing
from faaskeeper.testing.smoke.report import Report, Verdict, write_whole
from faaskeeper.testing.smoke.stage import Failed, Say, Stage

BUDGET = 1.0
"""Dollars that a run may cost."""
_LEFT_S = 900.0
"""How long what is removed may still be in a list: the index of tags lags behind."""
_SETTLES_S = 60.0
_LAG_S = 600.0
"""How long a service's counts may be behind, at least."""
_CHANGE = re.compile(r"(add|modify|remove|import|dynamic|create|update|delete|replace) ", re.IGNORECASE)
"""A line of a plan with a change."""


class Options(NamedTuple):
    """How much is tried.

    ``share``: one of so many recorded scenarios; ``turns``: of each operation that is timed;
    ``wait_s``: until the services' counts do not change any more.
    """

    share: int = 1
    turns: int = 100
    wait_s: float = 900.0


def cleaning(directory: Path) -> str:
    """The command that removes what a run has left."""
    return shlex.join([sys.executable, "-m", "faaskeeper.testing.smoke", "clean", str(directory)])


class Gate:
    """One run."""

    def __init__(self, stage: Stage, options: Options, say: Say) -> None:
        self._stage = stage
        self._options = options
        self._say = say
        self._interrupted = False
        self._deploying = False
        self.report = Report(
            cloud=stage.cloud,
            deployment=stage.name,
            region=str(stage.data.get("deployment-region", "")),
            version=faaskeeper.__version__,
            emulated=stage.emulated,
            began=time.time(),
        )
        self.report.facts["configuration"] = shown(Config.deserialize(stage.data))
        self.report.facts["began"] = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())

    def run(self) -> bool:
        """Do all of it; returns whether everything is as it should be."""
        self._say(f"if this is killed, remove what it made: {cleaning(self._stage.files.directory)}")
        self._say(f"what the commands say is in {self._stage.files.log}")
        try:
            with translated_errors():
                self._try()
        except KeyboardInterrupt:
            self._interrupted = True
            self.report.add("gate", "the run came to its end", False, "it was interrupted")
            self._say("interrupted: removing what was made")
        except Exception as error:
            self._failed("gate", "the run came to its end", error)
        self._remove()
        self.report.ended = time.time()
        self.report.facts["took"] = f"{(self.report.ended - self.report.began) / 60:.0f} minutes"
        self._save()
        return self.report.passed

    def _save(self) -> None:
        path = self.report.save(self._stage.files.directory)
        self._say(f"the report is {path}")

    def _failed(self, section: str, what: str, error: BaseException) -> None:
        expected = isinstance(error, (Failed, DriverError, FaaSKeeperException))
        with self._stage.files.log.open("a", encoding="utf-8") as log:
            log.write("".join(traceback.format_exception(error)) + "\n")
        said = str(error) if expected else f"{type(error).__name__}: {error}"
        self.report.add(section, what, False, said)
        self._say(f"FAILED {what}: {said}")

    def _step(self, section: str, what: str, act: Callable[[], str | None]) -> bool:
        """Do a step whose failure does not end the run; returns whether it is right.

        ``act``: returns what came of it; None: no more than that; empty: there was nothing to do.
        """
        self._say(what)
        began = time.monotonic()
        try:
            said = act()
        except Exception as error:
            self._failed(section, what, error)
            return False
        if said != "":
            self.report.add(section, what, True, said or f"{time.monotonic() - began:.0f} s")
        return True

    # ---- deploying -----------------------------------------------------------------------

    def _try(self) -> None:
        stage, report = self._stage, self.report
        before = stage.left()
        if before:
            raise Failed(f"there is something of this name already: {', '.join(before)}")
        self._deploying = True
        section = "deployment"
        for what, why in stage.unreal if stage.emulated else ():
            report.untried(section, what, why)
        if not self._step(section, "the rights of who deploys are made", lambda: stage.prepare(report)):
            return
        if not self._step(
            section, "fk deploy service --dry-run, before anything is there", lambda: self._fk("--dry-run")
        ):
            return
        if not self._step(section, f"fk deploy service, {stage.who}", lambda: self._fk("--yes")):
            return
        if not self._step(section, "a client's rights are made", lambda: stage.deployed(report)):
            return
        self._step(section, "fk deploy service --dry-run shows no changes afterwards", self._unchanged)
        self._step(section, "fk doctor", self._doctor)
        self._step(section, "fk deploy service, with a change", self._change)
        self._step(section, "a second deployment's functions", lambda: stage.second(report))
        self._deny()
        for suite in ("semantic", "session", "watch"):
            self._suite(suite)
        self._time()
        self._die()

    def _fk(self, *more: str) -> str | None:
        self._stage.deploy(self._stage.deployer(), *more)
        return None

    def _unchanged(self) -> str | None:
        said = self._stage.deploy(self._stage.deployer(), "--dry-run")
        lines = said.splitlines()
        changes = [line for line in lines if _CHANGE.match(line)]
        if changes:
            raise Failed(f"the plan has changes: {'; '.join(changes[:10])}")
        for line in lines:
            if line.startswith("drift"):
                self.report.note("deployment", "drift after the deployment", line)
        return None

    def _doctor(self) -> str:
        said = self._stage.fk(self._stage.own(), "doctor", str(self._stage.files.out))
        unknown = [line[2:].strip() for line in said.splitlines() if line.startswith("?")]
        for each in unknown:
            self.report.note("deployment", "fk doctor could not say", each)
        return f"{sum(line.startswith('ok') for line in said.splitlines())} checks are right"

    def _change(self) -> None:
        data = self._stage.data
        data["heartbeat-frequency"] = 2 * int(data.get("heartbeat-frequency", 60))
        write_whole(self._stage.files.config, json.dumps(data, indent=2))
        self._fk("--yes")

    # ---- what is tried -------------------------------------------------------------------

    def _deny(self) -> None:
        self._say("what no client may do")
        for what, refused, said in self._stage.attempts():
            self.report.add("rights of a client", f"may not {what}", refused, said)

    def _suite(self, name: str, life_s: float = 0.0) -> None:
        self._say(f"the {name} suite")
        stage = self._stage
        stage.renew()
        harness = suites.Deployed(stage.clients, stage.connect, stage.beat, life_s)
        outcome = suites.run(name, harness, self._options.share, self._say, stage.files.log)
        said = f"{outcome.passed} tests passed in {outcome.seconds:.0f} s"
        for why, number in outcome.left_out.items():
            self.report.untried("suites", f"{number} of the recorded scenarios", why)
        if not outcome.passed and not outcome.failed:
            said = "it has no tests"
        right = bool(outcome.passed) and not outcome.failed
        self.report.add("suites", f"{name} suite", right, said)
        for test, why in outcome.failed.items():
            self.report.add("suites", f"{name}: {test}", False, why)

    def _time(self) -> None:
        stage, turns = self._stage, self._options.turns

        def measure() -> str:
            stage.renew()
            harness = suites.Deployed(stage.clients, stage.connect, stage.beat)
            took = timing.measured(harness, turns)
            model = timing.modelled(stage.clients)
            for operation, values in took.items():
                self.report.latencies.append(
                    {
                        "operation": operation,
                        "number": len(values),
                        "measured": timing.percentiles(values),
                        "modelled": model.get(operation),
                    }
                )
            return f"{turns} of each operation"

        self._step("latencies", "latencies were measured", measure)
        section = "latencies"
        if self.report.emulated:
            self.report.untried(section, "latencies beside the model's", "an emulator's are not a cloud's")
        elif not timing.modelled(stage.clients):
            self.report.note(section, "there is no model", timing.row_of(stage.clients))
        else:
            self.report.note(
                section,
                f"the model is of '{timing.row_of(stage.clients)}', of clients in the deployment's region",
                "clients elsewhere see the way there, too",
            )

    def _die(self) -> None:
        stage = self._stage
        if stage.direct:
            why = "clients write by themselves, and a cloud does not end their processes"
            self.report.untried("suites", "crash suite", why)
            return
        least, most = stage.mortal()

        out = str(stage.files.out)

        def deploy() -> None:
            life = (str(least), str(most))
            stage.run(stage.deployer(), "faaskeeper.testing.smoke.mortal", out, *life)
            stage.dying()

        def go_back() -> None:
            stage.fk(stage.deployer(), "deploy", "functions", out, "--rollback", "--yes")

        section = "crashes"
        if not self._step(section, "code whose processes die is deployed", deploy):
            return
        self._suite("crash", most)
        self._step(section, "fk deploy functions --rollback", go_back)
        self._step(section, "functions died while the crash suite ran", self._deaths)

    def _deaths(self) -> str:
        deadline = time.monotonic() + self._options.wait_s
        while not (number := self._stage.deaths()):
            if time.monotonic() > deadline:
                raise Failed("by the cloud's log none did, so that suite shows nothing")
            time.sleep(_SETTLES_S)
        return f"{number} processes, by the cloud's log"

    # ---- the end -------------------------------------------------------------------------

    def _remove(self) -> None:
        """Remove everything, in any state, and show what is left."""
        if not self._deploying:
            return
        try:
            held = self._stage.left()
            self.report.note("removal", "resources before", f"{len(held)} in the account's lists")
        except Exception as error:
            self._failed("removal", "the account's lists can be read", error)
        until = time.time()
        try:
            self.clean()
            if not self._interrupted:
                self._cost(until)
        except KeyboardInterrupt:
            self.report.add("removal", "the removal came to its end", False, "it was interrupted")
            self._say(f"interrupted while removing. To go on: {cleaning(self._stage.files.directory)}")

    def clean(self) -> None:
        """Remove what a run has made, which may be repeated, and list what is left."""
        stage, section = self._stage, "removal"
        self._step(section, "a client's rights are removed", stage.remove)

        def remove(environment: Mapping[str, str]) -> None:
            stage.deploy(environment, "--clean", "--yes")

        what = "fk deploy service --clean"
        if not self._step(section, what, lambda: remove(stage.remover())):
            if not stage.emulated:
                time.sleep(_SETTLES_S)  # what an interrupted command has begun may hold a lock
            self._step(section, f"{what}, with the caller's rights", lambda: remove(stage.own()))
        self._step(section, "the rights of who deploys are removed", stage.finished)
        self._step(section, "nothing is left, by the account's own lists", self._nothing)
        if self.report.lines[-1].verdict is Verdict.FAILED:
            self._say(f"something is left. To try again: {cleaning(stage.files.directory)}")

    def _nothing(self) -> str:
        deadline = time.monotonic() + _LEFT_S
        while True:
            left = self._stage.left()
            if not left:
                return "each list is empty"
            if time.monotonic() > deadline or self.report.emulated:
                raise Failed(f"{len(left)} left: {', '.join(left)}")
            time.sleep(10.0)

    def _cost(self, until: float) -> None:
        """What the services counted, when their counts stay as they are."""
        report, section = self.report, "cost"
        deadline = time.monotonic() + self._options.wait_s

        def look() -> str:
            while True:
                before, report.usage = report.usage, self._stage.usage(report.began, until)
                settled = before == report.usage and time.time() > until + _LAG_S
                if settled or time.monotonic() > deadline:
                    return f"{sum(each.count is not None for each in report.usage)} counts"
                self._say("waiting until the services' counts stay as they are")
                time.sleep(_SETTLES_S)

        if not self._step(section, "what the services counted", look):
            return
        for each in report.usage:
            if each.count is None:
                if report.emulated:
                    report.untried(section, each.what, f"the emulator does not count it: {each.source}")
                else:
                    report.note(section, f"{each.what}: not counted", f"no data of {each.source}")
        said = f"${report.cost:.4f} by these counts and the prices of the package"
        if report.emulated:
            report.untried(section, f"the run costs less than ${BUDGET:.2f}", said)
        else:
            counted = any(each.count for each in report.usage)
            report.add(
                section,
                f"the run costs less than ${BUDGET:.2f}",
                counted and report.cost < BUDGET,
                said if counted else "nothing was counted",
            )


def shown(config: Config) -> str:
    """The choices of a configuration."""
    chosen = {
        "user-storage": config.user_storage,
        "worker-queue": config.worker_queue,
        "distributor-queue": config.distributor_queue,
        "client-channel": config.client_channel,
    }
    return ", ".join(f"{key}: {each.value}" for key, each in chosen.items())


def configuration(path: Path, name: str) -> dict[str, Any]:
    """What is deployed: a configuration under another name. Raises ConfigurationException."""
    config = Config.load(path)
    data: dict[str, Any] = strict_json(path.read_bytes())
    return {**data, "deployment-name": name, "deployment-region": config.deployment_region}
