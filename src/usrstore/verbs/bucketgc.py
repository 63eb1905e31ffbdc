"""gc for a bucket: what a store without folders may do without.

refs, operations, tags, rules → marks → repack → condemn → sweep

Nothing there keeps two collections apart, and none needs to be: the docket and the chain of
states, which anybody can extend but nobody twice, give refs and removals one order; and no pack
gets a name that another one had, so a removal that comes late removes nothing.
"""

from __future__ import annotations

from usrstore.objects.progress import Emit, silent
from usrstore.objects.state import State
from usrstore.odb import exclusive, gc
from usrstore.odb.backend.backend import Backend
from usrstore.odb.docket import Docket
from usrstore.odb.ends import Ends
from usrstore.odb.gc import Rules
from usrstore.odb.mark import Marks
from usrstore.odb.states import States
from usrstore.root import Who
from usrstore.verbs.bare import database_of
from usrstore.verbs.gc import GcResult
from usrstore.verbs.liveness import Kept, mark, oldest_operation
from usrstore.verbs.retention import Retention

_PROBE_STALE_S = 3600.0


def collect(
    backend: Backend,
    where: str,
    who: Who,
    retention: Retention,
    *,
    scratch: str,
    ends: Ends | None = None,
    dry_run: bool = False,
    emit: Emit = silent,
) -> GcResult:
    """Delete what nothing in a bucket reaches and retention does not ask for.

    Args:
        backend: the bucket.
        where: its name for people.
        who: who acts.
        retention: the rules; every state that was ever pushed stays whole without any.
        scratch: a folder for packs on their way up.
        ends: what is remembered of its packs.
        dry_run: look only.
        emit: progress.

    Raises:
        UnsupportedError: it does not create exclusively, so nothing there has an order.
        IntegrityError: something is damaged or missing; nothing was deleted.
        ConflictError: others wrote all the time; nothing was deleted.
    """
    result = GcResult()
    states = States(backend)
    if states.newest() is None:
        return result
    database = database_of(backend, scratch, ends)
    act = who.act("collection")
    now_s = act.time_us / 1e6
    if not dry_run:
        exclusive.probe_create(backend, where)
        now_s = Docket(backend).now_s()
    oldest = oldest_operation(states, retention, now_s)

    def marked(newest: State | None) -> Marks:
        marks, result.lighter = mark(Kept(database, states), newest, oldest, retention)
        if not dry_run:  # I2: what names bytes goes before the bytes do
            states.forget(oldest)
        return marks

    result.operations = sum(1 for number in states.times() if number < oldest)
    rules = Rules(retention.grace, dry_run=dry_run)
    result.collected = gc.collect(database, states, marked, rules, act, emit)
    if not dry_run:
        database.remember()
    for stat in list(backend.list("probe/")):  # of doctors and pushes that died
        if now_s - stat.mtime_s >= max(_PROBE_STALE_S, retention.grace):
            result.leftovers += 1
            result.leftover_bytes += stat.size
            if not dry_run:
                backend.delete(stat.key)
    return result
