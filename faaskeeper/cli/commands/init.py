"""``fk init``: writes a configuration to deploy, by asking for what matters."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import click

from faaskeeper import registry
from faaskeeper.cli import output
from faaskeeper.cli.arguments import File
from faaskeeper.cli.deployments import PROVIDERS, can_ask
from faaskeeper.cli.options import as_json
from faaskeeper.config import Config, ConfigurationException, StorageType
from faaskeeper.deploy.names import REGIONS, check_name

_NAME = "faaskeeper-dev"
_LOCAL = "local"
_REGIONS = {
    "aws": (("AWS_REGION", "AWS_DEFAULT_REGION"), "us-east-1"),
    "gcp": (("GOOGLE_CLOUD_REGION", "CLOUDSDK_COMPUTE_REGION"), "us-central1"),
}
"""By provider: the variables that may name a region, and the region without them."""
_PROJECTS = ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT", "GCLOUD_PROJECT")
_STORAGE = {
    _LOCAL: "Where znodes are: key-value (SQLite), hybrid (SQLite, data over 64 KB in files), persistent "
    "(files).",
    "aws": "Where znodes are: hybrid (DynamoDB, large data in S3), key-value (DynamoDB), persistent (S3).",
    "gcp": "Where znodes are: hybrid (Datastore, large data in Cloud Storage), key-value (Datastore), "
    "persistent (Cloud Storage).",
}
_WORKER = {
    "aws": "What carries requests: sqs (in order, fastest), sqs-unordered, dynamodb (free while idle, "
    "slower), direct (clients write themselves: they must be trusted).",
    "gcp": "What carries requests: pubsub, pubsub-ordered (slower), direct (clients write themselves: they "
    "must be trusted).",
}
_CHANNEL = {
    "aws": "How clients are answered: sqs (works everywhere), tcp (faster; functions must reach clients).",
    "gcp": "How clients are answered: pubsub (works everywhere), tcp (faster; functions must reach clients).",
}


class Question(NamedTuple):
    """A question: its key in the configuration, what it means, and the answer that is offered.

    ``choices``: the valid answers; empty: ``check`` raises ConfigurationException for others.
    """

    key: str
    about: str
    default: str
    choices: tuple[str, ...] = ()
    check: Callable[[str], str] = str


def questions(provider: str) -> list[Question]:
    """What is asked for a provider, in this order."""
    spec = registry.PROVIDERS[provider]
    storage = tuple(sorted(each.value for each in StorageType))
    if provider == _LOCAL:
        return [
            Question("deployment-name", "A name, which the shell shows.", _NAME),
            Question("directory", "Where the service keeps its files.", _folder(), check=_directory),
            Question("user-storage", _STORAGE[provider], spec.defaults.user_storage, storage),
        ]
    variables, region = _REGIONS[provider]
    asked = [
        Question(
            "deployment-name",
            "The names of all its resources begin with this name.",
            _NAME,
            check=lambda name: check_name(provider, name),
        ),
        Question(
            "deployment-region",
            "The cloud's region, best near your clients.",
            _first(variables) or region,
            check=lambda name: _region(provider, name),
        ),
        Question(
            "user-storage",
            _STORAGE[provider],
            spec.defaults.user_storage,
            storage,
        ),
        Question("worker-queue", _WORKER[provider], spec.worker_queues[0], spec.worker_queues),
        Question("client-channel", _CHANNEL[provider], spec.client_channels[0], spec.client_channels),
    ]
    if provider == "gcp":
        project = Question(
            "project-id", "The Google Cloud project, by its id.", _first(_PROJECTS), check=_project
        )
        asked.insert(0, project)
    return asked


def _folder() -> str:
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return str(Path(data, "faaskeeper", _NAME).expanduser())


def _directory(name: str) -> str:
    if not name or "\0" in name:
        raise ConfigurationException("a directory's name must not be empty or contain a NUL character")
    return str(Path(name).expanduser().absolute())


def _first(variables: tuple[str, ...]) -> str:
    return next((os.environ[each] for each in variables if os.environ.get(each)), "")


def _region(provider: str, name: str) -> str:
    known = REGIONS[provider]
    if name not in known:
        near = ", ".join(get_close_matches(name, known, 3, 0.4)) or ", ".join(known)
        raise ConfigurationException(
            f"{name!r} is not a known region; do you mean {near}? (A newer one can be entered in the file.)"
        )
    return name


def _project(name: str) -> str:
    if not name.strip():
        raise ConfigurationException(
            "a project is needed: 'gcloud projects list' shows yours; give it with --project"
        )
    return name.strip()


@click.command("init")
@click.argument("provider", type=click.Choice([_LOCAL, *PROVIDERS.choices]))
@click.argument("file", type=File(), default="config.json")
@click.option("--name", "deployment_name", help="Name of the deployment.")
@click.option("--region", "deployment_region", help="The cloud's region.")
@click.option("--project", "project_id", help="Google Cloud: the project's id.")
@click.option("--directory", help="Embedded service: where it keeps its files.")
@click.option("--user-storage", help="Where znodes are stored.")
@click.option("--worker-queue", help="What carries requests.")
@click.option("--client-channel", help="How clients are answered.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing: take the defaults for what no option gives.")
@as_json
def init(provider: str, file: Path, yes: bool, as_json: bool, **options: str | None) -> None:
    """Write a configuration to FILE, by asking for what matters.

    'local' is an embedded service, used as it is; the others are for 'fk deploy'.

    \b
    Examples:
      fk init local --yes
      fk init aws
      fk init gcp config.json --project my-project --yes
    """
    asked = questions(provider)
    given = {key.replace("_", "-"): value for key, value in options.items() if value is not None}
    unknown = given.keys() - {each.key for each in asked}
    for each in sorted(unknown):
        option = {"deployment-region": "region", "project-id": "project"}.get(each, each)
        other = {"project-id": "gcp", "directory": _LOCAL}.get(each, "aws")
        raise click.UsageError(f"--{option} is for 'fk init {other}', not for {provider!r}")
    if file.exists():
        raise click.UsageError(f"{file} exists: choose another file")
    if any(each.key not in given for each in asked):
        can_ask(yes)
    answers = {each.key: _answer(each, given.get(each.key), yes) for each in asked}
    data = _configuration(provider, answers)
    Config.deserialize(data)
    with open(file, "x", encoding="utf-8") as opened:
        opened.write(json.dumps(data, indent=2) + "\n")
    if as_json:
        output.print_line(output.json_line({"file": str(file), "configuration": data}))
        return
    output.print_line(f"wrote {file}; docs/operations.md lists every key")
    if provider == _LOCAL:
        output.print_line("Next, open a shell on it, or serve ZooKeeper's clients:")
        output.print_line(f"  fk --config {file} shell")
        output.print_line(f"  fk serve {file}")
        return
    output.print_line("Next, see what would be deployed, and what it costs:")
    output.print_line(f"  fk deploy service client.json --config {file} --dry-run")


def _answer(question: Question, given: str | None, yes: bool) -> str:
    """The answer: as given, or as asked for."""
    if given is not None or yes:
        try:
            return _checked(question, question.default if given is None else given)
        except ConfigurationException as error:
            raise click.UsageError(str(error)) from error
    output.print_line(question.about)
    while True:
        word: str = click.prompt(f"  {question.key}", default=question.default or None)
        try:
            return _checked(question, word)
        except ConfigurationException as error:
            output.print_line(f"  {error}")


def _checked(question: Question, word: str) -> str:
    if question.choices and word not in question.choices:
        words = ", ".join(question.choices)
        raise ConfigurationException(f"the key {question.key!r} is {word!r}: it must be one of {words}")
    return question.check(word)


def _configuration(provider: str, answers: dict[str, str]) -> dict[str, Any]:
    """The configuration, with the defaults of keys that people often change."""
    spec = registry.PROVIDERS[provider]
    if provider == _LOCAL:
        defaults = spec.defaults
        times = {
            "session-timeout": defaults.session_timeout,
            "heartbeat-frequency": defaults.heartbeat_frequency,
        }
        return {"cloud-provider": provider, **answers, **times}
    section = {"project-id": answers.pop("project-id")} if provider == "gcp" else {}
    return {
        "cloud-provider": provider,
        **answers,
        "distributor-queue": spec.distributor_queues[0],
        "heartbeat-frequency": spec.defaults.heartbeat_frequency,
        "session-timeout": spec.defaults.session_timeout,
        provider: {**section, "deploy": {}},
    }
