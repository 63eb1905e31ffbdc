"""many: pull or push several datasets as one. All of it happens, or nothing.

plan    each is compared; whoever must refuse does so before anything moves
ready   each is received, verified and made durable, here or there
end     one swap of all folders, one state for all refs
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from usrstore.errors import UsrError
from usrstore.objects.names import DatasetId
from usrstore.objects.progress import Emit, Event, silent
from usrstore.remote.peer import Peer
from usrstore.verbs.audit import SyncResult
from usrstore.verbs.meeting import remember_theirs
from usrstore.verbs.options import OnMeeting, Options
from usrstore.verbs.problems import inventory_check
from usrstore.verbs.pull import bring_tags, pull
from usrstore.verbs.push import push, tags_to_send
from usrstore.verbs.recover import recover
from usrstore.verbs.site import Site
from usrstore.verbs.together import Together

_VERBS = {"pull": pull, "push": push}


@dataclass(frozen=True, slots=True)
class ManyResult:
    """What became of several datasets.

    Attributes:
        results: of each, sorted by dataset.
        state: the number of the state that holds all of it at the destination; None if none
            was made.
    """

    results: tuple[SyncResult, ...]
    state: int | None


def transfer(
    action: Literal["pull", "push"],
    sites: Sequence[Site],
    peer: Peer,
    remote: str,
    options: Options,
    *,
    agree: Callable[[Sequence[SyncResult]], bool] = lambda _plans: True,
    on_meeting: OnMeeting = lambda _met: None,
    emit: Emit = silent,
) -> ManyResult | None:
    """Pull or push the datasets of one root, all or none; None if `agree` said no.

    Args:
        action: which.
        sites: the datasets, at least one.
        peer: the other end.
        remote: its name.
        options: for each of them.
        agree: asked once, with the plans of all, if anything would change.
        on_meeting: told how each compares.
        emit: progress; each event says of which dataset it is.

    Raises:
        UsrError: as `pull` and `push`, naming the dataset; no dataset and no ref was changed.
    """
    verb, sites = _VERBS[action], sorted(sites, key=lambda site: site.dataset)
    root, who, count = sites[0].root, sites[0].who, len(sites)
    if root.has_store and not options.dry_run:
        for site in sites:
            recover(root, who, only=site.dataset, lock_timeout_s=site.lock_timeout_s)
    plans = []
    for number, site in enumerate(sites, 1):
        with naming(site.dataset, count):
            plan = verb(
                site,
                peer,
                remote,
                replace(options, dry_run=True),
                on_meeting=on_meeting,
                emit=counted(emit, site.dataset, number, count),
            )
        assert plan is not None  # nobody was asked
        plans.append(plan)
    if options.dry_run:
        return ManyResult(tuple(plans), None)
    if any(plan.state == "DRY-RUN" for plan in plans) and not agree(plans):
        return None
    together, results = Together(root, who), []
    try:
        for number, (site, plan) in enumerate(zip(sites, plans, strict=True), 1):
            if _is_noted(plan) and not (action == "push" and tags_to_send(plan.meeting, options)):
                together.then(lambda met=plan.meeting: remember_theirs(met, None))  # type: ignore[misc]
                if action == "pull":
                    together.then(
                        lambda met=plan.meeting: bring_tags(met, options, emit)  # type: ignore[misc]
                    )
                results.append(plan)
                continue
            with naming(site.dataset, count):
                result = verb(
                    Site.open(root, site.dataset, who, lock_timeout_s=site.lock_timeout_s),
                    peer,
                    remote,
                    options,
                    on_meeting=on_meeting,
                    together=together,
                    emit=counted(emit, site.dataset, number, count),
                )
            assert result is not None
            results.append(result)
        with inventory_check(f"post-{action}"):
            together.promote(" ".join((action, *options.policy)), emit=emit)
    finally:
        together.close()
    return ManyResult(tuple(results), _state(action, together, results))


def _state(
    action: Literal["pull", "push"], together: Together, results: Sequence[SyncResult]
) -> int | None:
    if all(result.state == "NO-OP" for result in results):
        return None
    if action == "push":
        return together.outcome.state.number if together.outcome else None
    newest = results[0].meeting.site.root.states.newest()
    return newest.number if newest else None


def _is_noted(plan: SyncResult) -> bool:
    """Whether nothing is left to do, not even to note where the remote is."""
    met = plan.meeting
    known = met.synced is not None and met.synced == met.answer.head
    return plan.state == "NO-OP" and known and met.head is not None


def counted(emit: Emit, dataset: DatasetId, number: int, count: int) -> Emit:
    """Progress of one dataset among several."""

    def tell(event: Event) -> None:
        emit(event._replace(dataset=dataset, number=number, of=count))

    return tell if count > 1 else emit


@contextlib.contextmanager
def naming(dataset: DatasetId, count: int) -> Iterator[None]:
    """What goes wrong with one of several says which it was, and what became of the others."""
    try:
        yield
    except UsrError as exc:
        if count > 1:
            exc.message += f"\n  at {dataset}, one of {count}: none of them was changed"
            exc.args = (exc.message,)
        raise
