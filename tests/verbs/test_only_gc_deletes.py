"""Only a collection deletes: no other verb removes a pack or a state, whatever it replaces."""

from __future__ import annotations

import os

import pytest

from support import datasets
from usrstore.odb import durable
from usrstore.verbs import gc
from usrstore.verbs.retention import Retention

OLD, NEW = datasets.old_files(), datasets.new_files()


@pytest.mark.spec("F-47")
def test_no_verb_but_gc_deletes_a_pack_or_a_state(make_pair):
    pair = make_pair(OLD)
    removed, renamed = [], []

    def watch(when, op, path):
        if when == "before" and op in ("unlink", "rename"):
            (removed if op == "unlink" else renamed).append(path)

    with durable.tapped(watch):
        pair.here.commit()
        pair.push()
        pair.there.write(NEW)
        pair.pull()
        pair.here.write(OLD)
        pair.there.write({**OLD, "meta.md": b"theirs"})
        pair.push(force=True)
        pair.here.commit()
        gc.repack(pair.here.root, pair.here.who)
    assert removed
    assert stored(removed + renamed) == []
    removed.clear()
    with durable.tapped(watch):
        gc.collect(pair.here.root, pair.here.who, Retention(grace=0.0))
    assert stored(removed)


def stored(paths):
    return [
        path
        for path in paths
        if os.path.basename(os.path.dirname(path)) in ("packs", "states")
        and not os.path.basename(path).startswith(durable.TEMPORARY_PREFIX)
    ]
