"""``grep``: lines of data that match."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from faaskeeper.cli.arguments import text_of
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import Failed
from faaskeeper.cli.options import as_json, command, depth_option, path_or_root, unsorted_option
from faaskeeper.cli.walks import Walk

NOTHING = 3
"""Exit status if nothing matches; 1 is that of a failure."""


def _pattern(text: str, fixed: bool, ignore_case: bool) -> re.Pattern[str]:
    try:
        return re.compile(re.escape(text) if fixed else text, re.IGNORECASE if ignore_case else 0)
    except (re.error, OverflowError) as error:
        raise click.UsageError(f"the pattern is not a regular expression: {error}") from error


@command("grep")
@click.argument("pattern")
@path_or_root
@click.option("-i", "--ignore-case", is_flag=True, help="Upper and lower case are the same.")
@click.option("-F", "--fixed-strings", "fixed", is_flag=True, help="PATTERN is text, not an expression.")
@click.option("-v", "--invert-match", "invert", is_flag=True, help="Lines that do not match.")
@click.option("-l", "--files-with-matches", "only_paths", is_flag=True, help="Print only paths of nodes.")
@click.option("-c", "--count", is_flag=True, help="Print only the number of lines of each node.")
@click.option("-n", "--line-number", "numbers", is_flag=True, help="Print the numbers of lines.")
@depth_option
@unsorted_option
@as_json
def grep(
    context: Context,
    pattern: str,
    path: str,
    ignore_case: bool,
    fixed: bool,
    invert: bool,
    only_paths: bool,
    count: bool,
    numbers: bool,
    depth: int | None,
    unsorted: bool,
    as_json: bool,
) -> None:
    """Print lines of data that match.

    It searches PATH and all nodes below it. PATTERN is a regular expression of Python. Data that is
    not text is searched, but its lines are not printed. Exit status 3: nothing matches. --json
    prints a line for each line.

    \b
    Examples:
      grep -i password /app
      grep -l '"debug": *true' /
    """
    if only_paths and count:
        raise click.UsageError("--count and --files-with-matches exclude each other")
    expression = _pattern(text_of(pattern), fixed, ignore_case)
    walk = Walk(context, data=True, depth=depth, unsorted=unsorted, as_json=as_json)
    found = False
    for node, _ in walk.visits(path):
        matches = _matches(node.data, expression, invert)
        if only_paths or count:
            number = sum(1 for _ in matches)
            found = found or number > 0
            if count and (number or not as_json):
                context.say(as_json, {"path": node.path, "count": number}, f"{node.path}:{number}")
            elif number:
                context.say(as_json, {"path": node.path}, node.path)
            continue
        for line, text in matches:
            found = True
            if text is None:
                shown = {"path": node.path, "binary": True}
                context.say(as_json, shown, f"{node.path}: binary data matches")
                break
            where = f"{node.path}:{line}" if numbers else node.path
            context.say(as_json, {"path": node.path, "line": line, "text": text}, f"{where}:{text}")
    walk.end()
    if not found:
        raise Failed("" if context.one_shot and not as_json else "nothing matches", NOTHING)


def _matches(data: bytes, expression: re.Pattern[str], invert: bool) -> Iterator[tuple[int, str | None]]:
    """The lines that match, numbered from 1; None in place of a line of data that is not text."""
    try:
        text, binary = data.decode(), b"\0" in data
    except UnicodeDecodeError:
        text, binary = data.decode(errors="surrogateescape"), True
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()  # what follows a final newline is no line
    for number, line in enumerate(lines, 1):
        if (expression.search(line) is None) is invert:
            yield number, None if binary else line
