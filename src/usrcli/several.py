"""Several datasets at once: which are meant, and how what became of all of them is shown."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import click

from usrcli.asking import Request
from usrcli.context import infer_dataset, make_who, parse_seconds, print_json
from usrcli.render import audit as rendering
from usrcli.render.text import plural
from usrcli.sync import error_data, write_audit
from usrcli.targets import is_pattern
from usrstore.errors import DatasetNotFoundError, UsrError
from usrstore.objects.names import DatasetId
from usrstore.remote.peer import Peer
from usrstore.root import Root
from usrstore.verbs import audit
from usrstore.verbs.audit import SyncResult
from usrstore.verbs.meeting import Meeting
from usrstore.verbs.options import Options
from usrstore.verbs.site import Site

Connect = Callable[[], contextlib.AbstractContextManager[Peer]]


def are_several(words: Sequence[str], *, every: bool) -> bool:
    """Whether a command was asked for several, however many those turn out to be.

    Raises:
        click.UsageError: for none, or for all and some.
    """
    if every and words:
        raise click.UsageError("--all means every dataset: name none beside it")
    if not every and not words:
        raise click.UsageError("name the datasets, then the remote; --all means every dataset")
    return every or len(words) > 1 or is_pattern(words[0])


def chosen(known: Iterable[str], patterns: Sequence[str], *, where: str) -> list[str]:
    """Those that any pattern matches, sorted; all of them without patterns.

    Raises:
        DatasetNotFoundError: a pattern that names none.
    """
    names = sorted(set(known))
    found = set() if patterns else set(names)
    for pattern in patterns:
        matches = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not matches:
            listed = ", ".join(names[:8]) + (" …" if len(names) > 8 else "")
            raise DatasetNotFoundError(
                f"{where} has no dataset {pattern}; nothing was changed",
                hint=f"it has: {listed or 'no datasets'}",
            )
        found.update(matches)
    return sorted(found)


def names_of(
    root: Root, words: Sequence[str], known: Callable[[], Iterable[str]], *, where: str
) -> list[DatasetId]:
    """The datasets that are meant, sorted, each once.

    Args:
        root: ours: an id, a path or a bare last name is understood as everywhere else.
        words: ids and patterns; none for all.
        known: what patterns are held against; asked only if there is one.
        where: whose datasets those are, for errors.
    """
    if not words:
        return [DatasetId(name) for name in chosen(known(), (), where=where)]
    patterns = [word for word in words if is_pattern(word)]
    plain = {infer_dataset(root, word) for word in words if not is_pattern(word)}
    matched = chosen(known(), patterns, where=where) if patterns else []
    return [DatasetId(name) for name in sorted({*plain, *matched})]


class Several:
    """One command over several datasets: what was seen of each, and how all is told."""

    def __init__(self, request: Request, options: Options) -> None:
        self.request = request
        self.options = options
        self._seen: dict[DatasetId, Meeting] = {}

    def sites(self, root: Root, names: Sequence[DatasetId]) -> list[Site]:
        who = make_who(root)
        seconds = parse_seconds(self.request.values["lock_timeout"])
        return [Site.open(root, name, who, lock_timeout_s=seconds) for name in names]

    def note(self, met: Meeting) -> None:
        self._seen.pop(met.site.dataset, None)
        self._seen[met.site.dataset] = met  # the newest last
        self.request.progress.done()

    def agree(self, plans: Sequence[SyncResult]) -> bool:
        changed = [plan.meeting for plan in plans if plan.state != "NO-OP"]
        return self.request.agree(*changed)

    @contextlib.contextmanager
    def refusal(self, action: audit.Action) -> Iterator[None]:
        """A failed run writes its audit, too: what was seen of each, all of it refused."""
        try:
            yield
        except UsrError as exc:
            refused = [
                SyncResult(action, "REFUSED", met, self.options.checks, scope=self.options.scope)
                for met in self._seen.values()
            ]
            error = error_data(exc)
            rows = [{**self._row(result), "error": error} for result in refused]
            body = {"datasets": rows, "state": None, "error": error}
            write_audit(self.request, body)
            if refused and not self.request.as_json:
                for text in rendering.audit_lines(refused[-1]):
                    click.echo(text)
            raise

    def _row(self, result: SyncResult) -> dict[str, Any]:
        return {**audit.data(result), "policy": list(self.options.policy)}

    def show(self, results: Sequence[SyncResult], state: int | None, *, summary: str) -> None:
        """The audit of each, and one line for all."""
        body = {"datasets": [self._row(result) for result in results], "state": state}
        write_audit(self.request, body)
        for text in rendering.policy_warnings(self.options.policy):
            click.echo(text, err=True)
        if self.request.as_json:
            print_json(body)
            return
        for result in results:
            for text in rendering.audit_lines(result):
                click.echo(text)
            if result.state in ("DRY-RUN", "DIFF-ONLY"):
                for text in rendering.change_lines(result):
                    click.echo(text)
            click.echo()
        click.echo(summary)


def run(
    action: Literal["pull", "push"],
    root: Root,
    words: Sequence[str],
    remote: str,
    request: Request,
    connect: Connect,
) -> int:
    """Transfer several datasets as one; gives the exit status."""
    from usrstore.verbs import many

    several = Several(request, request.options(root))
    with several.refusal(action), connect() as peer:
        if action == "push":
            names = names_of(root, words, root.datasets, where=root.path)
        else:
            listed = [row.dataset for row in peer.datasets()] if needs_list(words) else []
            names = names_of(root, words, lambda: listed, where=f"the remote {remote}")
        if not names:
            several.show((), None, summary="There are no datasets.")
            return 0
        try:
            done = many.transfer(
                action,
                several.sites(root, names),
                peer,
                remote,
                several.options,
                agree=several.agree,
                on_meeting=several.note,
                emit=request.progress,
            )
        finally:
            request.progress.done()
    if done is None:
        return 130
    at = remote if action == "push" else "this root"
    end = f"; state {done.state} of {at}" if done.state is not None else ""
    end += "" if several.options.whole else "; of each, only what was asked for"
    several.show(done.results, done.state, summary=_tally(done.results) + end)
    return 0


def needs_list(words: Sequence[str]) -> bool:
    return not words or any(map(is_pattern, words))


_WORDS = {
    "TRANSFERRED": "transferred",
    "MERGED": "merged",
    "NO-OP": "unchanged",
    "DRY-RUN": "would change",
}


def _tally(results: Sequence[SyncResult]) -> str:
    counts = {
        word: sum(result.state == state for result in results) for state, word in _WORDS.items()
    }
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{plural(len(results), 'dataset')}: {told}"


def diff(root: Root, words: Sequence[str], remote: str, request: Request, connect: Connect) -> int:
    """Compare several datasets with a remote over one connection; gives the exit status."""
    from usrstore.verbs.diff import diff as verb
    from usrstore.verbs.many import counted, naming

    several, results = Several(request, request.options(root)), []
    with several.refusal("diff"), connect() as peer:

        def known() -> list[str]:
            return [*root.datasets(), *(row.dataset for row in peer.datasets())]

        names = names_of(root, words, known, where=f"neither this root nor {remote}")
        try:
            for number, site in enumerate(several.sites(root, names), 1):
                with naming(site.dataset, len(names)):
                    result = verb(
                        site,
                        peer,
                        remote,
                        checks=several.options.checks,
                        accept_rollback=several.options.accept_rollback,
                        emit=counted(request.progress, site.dataset, number, len(names)),
                    )
                several.note(result.meeting)
                results.append(result)
        finally:
            request.progress.done()
    changed = sum(result.changed for result in results)
    summary = (
        f"{plural(len(results), 'dataset')}: {changed} changed, {len(results) - changed} equal"
    )
    several.show(
        results,
        None,
        summary=f"{summary}\n{rendering.line('Status', 'CHANGES' if changed else 'up-to-date')}",
    )
    return 1 if request.values["exit_code"] and changed else 0
