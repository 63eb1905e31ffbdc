"""completion: a shell's Tab key knows the commands, the options, and what a root holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, get_completion_class

from usrcli.context import find_root, remotes_path
from usrcli.main import COMPLETE_VARIABLE, Settings, cli
from usrstore.errors import UsrError

if TYPE_CHECKING:
    from usrstore.root import Root

_REVISIONS = {"revision", "revisions", "ranges", "this", "other", "old", "new"}
_DATASETS = {"dataset", "datasets"}


@click.command(short_help="Print what makes a shell complete usr's words")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> int:
    """Print a script that lets SHELL complete commands, options, datasets, tags and remotes.

    \b
    bash   eval "$(usr completion bash)"             in ~/.bashrc
    zsh    eval "$(usr completion zsh)"              in ~/.zshrc
    fish   usr completion fish > ~/.config/fish/completions/usr.fish
    """  # noqa: D301
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, "usr", COMPLETE_VARIABLE).source())
    return 0


def attach(command: click.Command) -> None:
    """Give a command's parameters, and those of its members, what they can be completed with."""
    for parameter in command.params:
        words = _WORDS.get(_kind(command, parameter) or "")
        if words is not None:
            parameter.type = words
    if isinstance(command, click.Group):
        for member in command.commands.values():
            attach(member)


def _kind(command: click.Command, parameter: click.Parameter) -> str | None:
    name = parameter.name
    if name in _DATASETS:
        return "several" if command.name in ("push", "pull") else "dataset"
    if name in _REVISIONS or (command.name, name) == ("tag", "name"):
        return "revision" if name != "other" else "other"
    if (command.name, name) == ("diff", "words"):
        return "other"
    if name == "remote" or (command.name in ("show", "remove") and name == "name"):
        return "remote"
    return None


class _Words(click.ParamType[str]):
    """A word that is completed from what the root holds."""

    name = "text"

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self._kinds = kinds

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        top = ctx.find_root()
        top.obj = Settings(top.params.get("root"), top.params.get("remotes_config"), debug=False)
        with ctx.scope(cleanup=False):
            try:
                found = sorted(set(self._words(find_root())))
            except (UsrError, OSError):
                return []  # a shell is no place for an error
        return [CompletionItem(word) for word in found if word.startswith(incomplete)]

    def _words(self, root: Root) -> Iterator[str]:
        if "dataset" in self._kinds:
            yield from root.datasets()
        refs = root.states.refs() if root.has_store and "revision" in self._kinds else {}
        for ref in refs:
            space, _, rest = ref.partition("/")
            if space == "tags":
                dataset, _, tag = rest.rpartition("/")
                yield f"{dataset}@{tag}"
            elif space != "folders":
                yield rest
        if "remote" in self._kinds:
            from usrstore.remote import profiles

            path = remotes_path(root)
            yield from profiles.load(path) if os.path.exists(path) else ()


_WORDS = {
    "dataset": _Words(("dataset",)),
    "revision": _Words(("dataset", "revision")),
    "other": _Words(("dataset", "revision", "remote")),
    "remote": _Words(("remote",)),
    "several": _Words(("dataset", "remote")),
}
