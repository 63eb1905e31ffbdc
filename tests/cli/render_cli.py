"""Writes the generated part of docs/cli.md from the commands themselves; a test compares."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from usrcli import main

DOC = Path(__file__).parent.parent.parent / "docs" / "cli.md"
BEGIN, END = "<!-- commands: begin -->\n", "<!-- commands: end -->\n"


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it; a group comes before its members."""
    context = click.Context(main.cli, info_name="usr")
    for names in main.COMMANDS.values():
        for name in names:
            command = main.cli.get_command(context, name)
            assert command is not None, name
            yield (name,), command
            if isinstance(command, click.Group):
                for inner, member in sorted(command.commands.items()):
                    yield (name, inner), member


def rendered() -> str:
    """One section a command: usage, purpose, options."""
    parts = [_options("Before the command", main.cli)]
    titles = {next(iter(names)): title for title, names in main.COMMANDS.items()}
    for words, command in commands():
        if len(words) == 1 and words[0] in titles:
            parts.append(f"### {titles[words[0]]}\n")
        parts.append(_command(words, command))
    return "\n".join(parts)


def _command(words: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(("usr", *words)))
    usage = " ".join(command.collect_usage_pieces(context))
    text = f"#### `{context.info_name} {usage}`\n\n{_prose(command)}\n"
    options = _options("", command)
    return text + (f"\n{options}" if options else "")


def _prose(command: click.Command) -> str:
    blocks = []
    for block in inspect.cleandoc(command.help or "").split("\n\n"):
        if block.startswith("\b\n"):
            blocks.append(f"```text\n{block.removeprefix(chr(8)).strip()}\n```")
        else:
            blocks.append(" ".join(block.split()))
    return "\n\n".join(blocks)


def _options(title: str, command: click.Command) -> str:
    context = click.Context(command)
    rows = []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None or not isinstance(parameter, click.Option) or "--help" in record[0]:
            continue
        name, about = (re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in record)
        rows.append(f"| `{name}` | {about} |")
    if not rows:
        return ""
    head = f"### {title}\n\n" if title else ""
    return head + "\n".join(["| option | |", "| --- | --- |", *rows]) + "\n"


def spliced(text: str) -> str:
    """The page with its generated part made anew."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, BEGIN
    assert end, END
    return f"{before}{BEGIN}\n{rendered()}\n{END}{after}"


if __name__ == "__main__":
    DOC.write_text(spliced(DOC.read_text()))
