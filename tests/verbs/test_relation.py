"""Who is ahead: every combination of what both sides had and have; nothing is chosen silently."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import datasets
from usrstore.errors import DivergedError, MergeConflictError, UsrError
from usrstore.objects.ids import ContentHash, Kind, hash_object
from usrstore.objects.tree import FileEntry
from usrstore.verbs.relation import Relation, judge, prefix_hash

LOGS = {"": None, "a": b"1\n", "b": b"2\n", "ab": b"1\n2\n"}
PATHS = ["meta.md", "_derived/n/part-1.parquet"]


def entry(path, data):
    return FileEntry(
        path.rpartition("/")[2], len(data), ContentHash(hash_object(Kind.CHUNK, data)), None
    )


def listing(files):
    return {path: entry(path, data) for path, data in files.items() if data is not None}


def prefix_of(log):
    """What `log_is_prefix` answers for a local log with these bytes."""
    data = log or b""
    return lambda size, content: (
        size <= len(data) and hash_object(Kind.CHUNK, data[:size]) == content
    )


versions = st.sampled_from([None, b"1", b"2", b"3"])
sides = st.fixed_dictionaries(dict.fromkeys(PATHS, versions)).map(
    lambda files: {path: data for path, data in files.items() if data is not None}
)
logs = st.sampled_from(list(LOGS.values()))
with_logs = st.tuples(sides, logs).map(
    lambda pair: {**pair[0], **({".events.log": pair[1]} if pair[1] is not None else {})}
)


def relation(local, remote, base):
    return judge(
        listing(local),
        listing(remote),
        base=None if base is None else listing(base),
        log_is_prefix=prefix_of(local.get(".events.log")),
    )


@pytest.mark.parametrize("versions", list(itertools.product([None, b"1", b"2", b"3"], repeat=3)))
def test_with_a_base_each_path_is_decided_by_who_changed_it(versions):
    base, local, remote = ({} if data is None else {"meta.md": data} for data in versions)
    expected = {
        (False, False): Relation.SAME,
        (True, False): Relation.LOCAL_AHEAD,
        (False, True): Relation.REMOTE_AHEAD,
        (True, True): Relation.SAME if local == remote else Relation.DIVERGED,
    }[local != base, remote != base]
    assert relation(local, remote, base).relation is expected


@settings(max_examples=400, deadline=None)
@given(with_logs, with_logs, with_logs)
def test_with_a_base_nothing_that_one_side_changed_is_lost_to_the_other(base, local, remote):
    judged = relation(local, remote, base)
    changed_here = {p for p in local.keys() | base.keys() if local.get(p) != base.get(p)}
    changed_there = {p for p in remote.keys() | base.keys() if remote.get(p) != base.get(p)}
    differ = {p for p in local.keys() | remote.keys() if local.get(p) != remote.get(p)}
    match judged.relation:
        case Relation.SAME:
            assert not differ
        case Relation.REMOTE_AHEAD:
            assert not changed_here & differ
        case Relation.LOCAL_AHEAD:
            assert not changed_there & differ
        case Relation.DIVERGED:
            assert changed_here & differ
            assert changed_there & differ
            assert set(judged.ours) == changed_here & differ
            assert set(judged.theirs) == changed_there & differ


@settings(max_examples=400, deadline=None)
@given(with_logs, with_logs)
def test_without_a_base_only_growth_is_ahead_and_the_rest_diverged(local, remote):
    judged = relation(local, remote, None)
    log, their_log = local.get(".events.log", b""), remote.get(".events.log", b"")
    replaced = {
        p for p in local.keys() & remote.keys() if local[p] != remote[p] and p != ".events.log"
    }
    match judged.relation:
        case Relation.SAME:
            assert local == remote
        case Relation.REMOTE_AHEAD:
            assert local.keys() <= remote.keys()
            assert judged.guessed == bool(replaced) or not local
            # the receiver looks at the log before it promotes, unless there is none here
            assert their_log.startswith(log) or judged.guard_log
        case Relation.LOCAL_AHEAD:
            assert remote.keys() <= local.keys()
            assert judged.guessed == bool(replaced) or not remote
            assert log.startswith(their_log)
        case Relation.DIVERGED:
            assert local != remote
            assert judged.ours or judged.theirs
    if replaced and judged.relation is not Relation.DIVERGED:
        assert log
        assert their_log
        assert log != their_log


@settings(max_examples=200, deadline=None)
@given(with_logs, with_logs, st.one_of(st.none(), with_logs))
def test_both_sides_see_the_same_relation(local, remote, base):
    swap = {
        Relation.LOCAL_AHEAD: Relation.REMOTE_AHEAD,
        Relation.REMOTE_AHEAD: Relation.LOCAL_AHEAD,
    }
    ours, theirs = relation(local, remote, base), relation(remote, local, base)
    guarded = ours.guard_log or theirs.guard_log  # one of them has yet to see the other's log
    mirrored = swap.get(theirs.relation, theirs.relation)
    assert ours.relation is mirrored or (guarded and Relation.DIVERGED in (ours.relation, mirrored))


def test_a_log_is_a_prefix_only_as_far_as_it_is_there(tmp_path):
    path = tmp_path / "log"
    assert prefix_hash(str(path), size=0) == hash_object(Kind.CHUNK, b"")
    assert prefix_hash(str(path), size=1) is None
    path.write_bytes(b"12345")
    assert prefix_hash(str(path), size=3) == hash_object(Kind.CHUNK, b"123")
    assert prefix_hash(str(path), size=6) is None


# ── whole verbs, over every combination ──────────────────────────────────────────────────
def mix(base, path, what):
    files = dict(base)
    match what:
        case "edited here":
            files[path] = b"here"
        case "edited there":
            files[path] = b"there"
        case "removed":
            files.pop(path, None)
    return files


SMALL = {
    "records.parquet": b"base",
    ".events.log": datasets.events(1),
    "meta.md": b"old",
}


@pytest.mark.parametrize("there", ["as it was", "edited there", "edited here", "removed"])
@pytest.mark.parametrize("here", ["as it was", "edited here", "removed"])
def test_a_sync_never_loses_what_only_one_side_knows(make_pair, here, there):
    """Push, then pull: what one side changed arrives, what both changed is a conflict."""
    pair = make_pair(SMALL)
    pair.push()
    pair.pull()
    ours, theirs = mix(SMALL, "meta.md", here), mix(SMALL, "meta.md", there)
    pair.here.write(ours)
    pair.there.write(theirs)
    changed_here, changed_there = ours != SMALL, theirs != SMALL
    both = changed_here and changed_there and ours != theirs
    for verb in (pair.push, pair.pull):
        try:
            verb()
        except UsrError:
            assert both or (changed_there and verb == pair.push)
    expected = theirs if changed_there else ours
    if both:
        assert (pair.here.read(), pair.there.read()) == (ours, theirs)
        with pytest.raises(MergeConflictError) as caught:
            pair.pull()
        assert "meta.md" in caught.value.message
        with pytest.raises(DivergedError) as caught:
            pair.push()
        assert "meta.md" in caught.value.message
        assert "usr pull" in caught.value.hint
        assert "--force-with-lease" in caught.value.hint
    else:
        assert pair.here.read() == pair.there.read() == expected


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_what_a_forced_sync_replaces_is_kept_in_full(make_pair, verb):
    pair = make_pair(SMALL)
    pair.push()
    pair.pull()
    pair.here.write({**SMALL, "meta.md": b"ours"})
    pair.there.write({**SMALL, "meta.md": b"theirs"})
    loser = pair.here if verb == "pull" else pair.there
    lost = loser.read()
    getattr(pair, verb)(force=True)
    assert pair.here.read() == pair.there.read() != lost
    kept = [
        loser.kept(state.refs["heads/ns/x"])
        for state in loser.root.states.history()
        if state.reason.startswith("kept before")
    ]
    assert kept == [lost]


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_at_a_first_meeting_what_is_replaced_is_kept_in_full(make_pair, verb):
    """Two folders that an older tool synced: one is ahead by its log alone."""
    pair = make_pair(SMALL)
    newer = {**SMALL, "meta.md": b"new", ".events.log": datasets.events(1, 2)}
    pair.there.write(newer if verb == "pull" else SMALL)
    pair.here.write(SMALL if verb == "pull" else newer)
    getattr(pair, verb)()
    loser = pair.here if verb == "pull" else pair.there
    assert loser.read() == newer
    kept = [
        loser.kept(state.refs["heads/ns/x"])
        for state in loser.root.states.history()
        if state.reason.startswith("kept before")
    ]
    assert kept == [SMALL]


@pytest.mark.parametrize("verb", ["pull", "push"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [((1,), (2,)), ((1, 2), (1, 3)), ((), (1,)), ((1,), ()), ((1,), (1,)), ((1, 2), (9, 8, 7))],
)
def test_at_a_first_meeting_logs_that_tell_nothing_are_a_divergence(make_pair, verb, ours, theirs):
    pair = make_pair()
    here = {**SMALL, "meta.md": b"here", ".events.log": datasets.events(*ours)}
    there = {**SMALL, "meta.md": b"there", ".events.log": datasets.events(*theirs)}
    pair.here.write(here)
    pair.there.write(there)
    with pytest.raises(UsrError) as caught:
        getattr(pair, verb)()
    assert caught.value.code in ("diverged", "remote-ahead")
    assert pair.here.read() == here
    assert pair.there.read() == there
