"""What commands are made of: options that several share, and `… -- PATH…`.

What follows a double dash are paths, whatever stands before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_KEY = "usrcli.paths"

Command = Callable[..., Any]


def options(*decorators: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Several options as one decorator, in the order in which help shows them."""

    def apply(command: Command) -> Command:
        for decorate in reversed(decorators):
            command = decorate(command)
        return command

    return apply


class PathsCommand(click.Command):
    """A command that takes paths behind `--`, apart from its other arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_KEY] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- PATH...]"]


def paths_given() -> tuple[str, ...]:
    """The paths behind `--`; none if there was none."""
    found: tuple[str, ...] = click.get_current_context().meta.get(_KEY, ())
    return found
