"""A store only grows: no verb deletes a pack or a state, whatever it replaces."""

from __future__ import annotations

import os

import pytest

from support import datasets
from usrstore.odb import durable

OLD, NEW = datasets.old_files(), datasets.new_files()


@pytest.mark.spec("F-47")
def test_no_verb_deletes_a_pack_or_a_state(make_pair):
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
    stored = [
        path
        for path in removed + renamed
        if os.path.basename(os.path.dirname(path)) in ("packs", "states")
        and not os.path.basename(path).startswith(durable.TEMPORARY_PREFIX)
    ]
    assert removed
    assert stored == []
