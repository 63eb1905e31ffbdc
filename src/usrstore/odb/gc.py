"""Collection: repack what is small or half dead, condemn what nothing reaches, sweep it later (I7).

mark      what the roots reach, under the newest state
repack    live objects of small and half-dead packs into new ones, which are published first
condemn   packs without a mark that are older than the grace time, on the docket
sweep     packs that were condemned a grace time ago and still have no mark: on the docket,
          then a fence in the chain of states, and only then off the disk
Killed anywhere, a collection leaves packs that the next one finds again; it never removes
what a state reaches, whatever clocks say and whoever writes meanwhile. The grace time is for
commands under way: those it is too short for fail, and say so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from usrstore.errors import ConflictError, IntegrityError
from usrstore.objects.ids import Kind, ObjectId, PackId
from usrstore.objects.progress import Emit, Event, silent
from usrstore.objects.state import State
from usrstore.odb.database import Database
from usrstore.odb.docket import Docket, Entry
from usrstore.odb.mark import Marks
from usrstore.odb.pack import Pack, pack_key
from usrstore.odb.states import Act, States

SMALL_BYTES = 16 << 20
MANY_SMALL = 8
_WASTE = 0.5  # of a pack's bytes; more dead ones and the rest is stored anew
_MAX_ATTEMPTS = 20

Mark = Callable[[State | None], Marks]
"""Marks everything that is to stay, given the newest state."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a collection goes about it.

    Attributes:
        grace_s: how long commands under way may rely on what no ref reaches yet.
        small: packs of fewer bytes are merged once there are `many` of them.
        many: how many.
        sweep: whether anything is deleted at all.
        dry_run: look only.
    """

    grace_s: float
    small: int = SMALL_BYTES
    many: int = MANY_SMALL
    sweep: bool = True
    dry_run: bool = False


@dataclass(slots=True)
class Collected:
    """What a collection did, or would do.

    Attributes:
        packs, size: packs that there were, and their bytes.
        live, dead: objects that are reached, and those that are not (copies among them).
        repacked: packs whose live objects were stored anew.
        condemned: packs that are on the docket from now on; these are among them.
        condemned_bytes: theirs.
        swept: packs that were deleted.
        swept_bytes: theirs.
    """

    packs: int = 0
    size: int = 0
    live: int = 0
    dead: int = 0
    repacked: int = 0
    condemned: list[PackId] = field(default_factory=list)
    condemned_bytes: int = 0
    swept: list[PackId] = field(default_factory=list)
    swept_bytes: int = 0

    def note(self, condemned: list[_Use], repacked: int) -> None:
        self.condemned += [use.pack.pack for use in condemned]
        self.condemned_bytes += sum(use.pack.size for use in condemned)
        self.repacked += repacked


class _Use(NamedTuple):
    """How much of a pack is live."""

    pack: Pack
    age_s: float
    live: int
    live_bytes: int
    meta: bool


def collect(
    database: Database, states: States, mark: Mark, rules: Rules, act: Act, emit: Emit = silent
) -> Collected:
    """One collection; with a grace time of nothing, what is condemned is swept at once.

    Raises:
        IntegrityError: a pack is damaged; nothing is deleted before that is looked after.
        ConflictError: writers came first, every time.
    """
    done = Collected()
    for attempt in range(_MAX_ATTEMPTS):
        again = _once(database, states, mark, rules, act, done, first=not attempt, emit=emit)
        if not again:
            return done
    raise ConflictError(
        "others wrote to this store all the time; nothing was deleted, all is as it was",
        hint="run the same command again",
    )


def _once(
    database: Database,
    states: States,
    mark: Mark,
    rules: Rules,
    act: Act,
    done: Collected,
    *,
    first: bool,
    emit: Emit,
) -> bool:
    """One look at everything; True if another is needed."""
    docket = Docket(database.backend)
    now_s = act.time_us / 1e6 if rules.dry_run else docket.now_s()  # a look writes nothing
    newest = states.newest()
    database.refresh()
    _refuse_damage(database)
    before, times = database.docket, docket.times()
    marks = mark(newest)
    marks.settle()
    marks.objects(ObjectId(pack) for pack, bits in list(marks.bits.items()) if any(bits))
    uses = _survey(database, marks, now_s)
    if first:
        done.packs, done.size = len(uses), sum(use.pack.size for use in uses)
        done.live = sum(use.live for use in uses)
        done.dead = sum(use.pack.index.count - use.live for use in uses)
    here = {use.pack.pack: use for use in uses}
    standing = {p: n for p, n in before.condemned.items() if p in here and not here[p].live}
    due = {
        pack
        for pack, number in standing.items()
        if rules.sweep and times.get(number, now_s) + rules.grace_s <= now_s
    }
    free = [u for u in uses if u.pack.pack not in before.condemned]
    idle = [u for u in free if rules.sweep and not u.live and u.age_s >= rules.grace_s]
    victims = _victims([u for u in free if u not in idle], rules)
    going = {u.pack.pack for u in (*idle, *victims)}
    # With a data pack the copy of its index goes: else it would tell of a pack that was lost.
    victims += [u for u in free if u.live and u.pack.pack not in going and _names(u, going)]
    if rules.dry_run:
        done.note([*victims, *idle], len(victims))
        done.swept = sorted(due)
        done.swept_bytes = sum(here[pack].pack.size for pack in due)
        return False
    made = _repack(database, marks, victims, going, rules, emit)
    fresh = [u for u in (*victims, *idle) if u.pack.pack not in made]
    entry = Entry(
        before.number + 1,
        standing | {u.pack.pack: before.number + 1 for u in fresh},
        frozenset(due),
    )
    if due or entry.condemned != before.condemned:
        if not docket.add(entry):
            return True  # another collection was faster
        done.note(fresh, len(victims))
        if due and not states.fence(newest, act):
            return True  # a ref moved: look again at what it reaches
        # First the packs that hold copies of indexes: none may tell of a pack that is gone.
        for pack in sorted(due, key=lambda pack: (not here[pack].meta, pack)):
            database.backend.delete(pack_key(pack))
            done.swept.append(pack)
            done.swept_bytes += here[pack].pack.size
        docket.forget(entry)
    return bool(fresh) and rules.sweep and rules.grace_s <= 0


def _refuse_damage(database: Database) -> None:
    for _ in database.packs():
        pass
    if database.damaged:
        raise IntegrityError(
            f"{len(database.damaged)} packs are damaged, the first {min(database.damaged)}: "
            "what they reach cannot be known; nothing was collected",
            hint="run `usr fsck` to see what it affects, and bring that back first",
        )


def _survey(database: Database, marks: Marks, now_s: float) -> list[_Use]:
    times = {stat.key: stat.mtime_s for stat in database.backend.list("packs/")}
    uses = []
    for pack in database.packs():
        bits = marks.bits.get(pack.pack, bytearray(pack.index.count))
        live = bits.count(1)
        size = pack.end
        if live < pack.index.count:
            size = sum(pack.index.row(at).stored for at, bit in enumerate(bits) if bit)
        age = now_s - times.get(pack_key(pack.pack), now_s)
        uses.append(_Use(pack, age, live, size, not pack.holds_data))
    return uses


def _victims(uses: list[_Use], rules: Rules) -> list[_Use]:
    """Packs whose live objects are to be stored anew: mostly dead, or small and many."""
    half_dead = [
        use
        for use in uses
        if use.live and use.age_s >= rules.grace_s and use.live_bytes < _WASTE * use.pack.end
    ]
    chosen = list(half_dead)
    for meta in (False, True):
        small = [
            use
            for use in uses
            if use.meta is meta and use.live and use.pack.size < rules.small and use not in chosen
        ]
        if len(small) >= rules.many:
            chosen += small
    return chosen


def _names(use: _Use, going: set[PackId]) -> bool:
    return any(use.pack.index.position(pack) is not None for pack in going)


def _repack(
    database: Database,
    marks: Marks,
    victims: list[_Use],
    going: set[PackId],
    rules: Rules,
    emit: Emit,
) -> set[PackId]:
    """Store anew what is live; of a young pack everything, for its writer may still need it.

    Returns:
        The packs that hold it now. One of them may have been a victim, and holds all the rest.
    """
    total, done = sum(use.live_bytes for use in victims), 0
    with database.batch() as batch:
        for meta in (False, True):  # I3: chunks before what names them
            for use in victims:
                bits = marks.bits.get(use.pack.pack, bytearray(use.pack.index.count))
                young = use.age_s < rules.grace_s
                rows = [
                    (use.pack.index.row(at), use.pack.index.oid(at))
                    for at, bit in enumerate(bits)
                    if bit or young
                ]
                wanted = [
                    (row, oid)
                    for row, oid in rows
                    if (row.kind != Kind.CHUNK) is meta
                    and not (row.kind == Kind.INDEX and oid in going)
                ]
                # As they lie: neighbours stay neighbours.
                for row, oid, stored in use.pack.as_stored(wanted):
                    batch.copy(use.pack, oid, row, stored)
                    done += row.stored
                    emit(Event("move", done, total))
    return batch.published
