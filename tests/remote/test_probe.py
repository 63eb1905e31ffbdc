"""A probe looks at the place itself and leaves nothing behind."""

from __future__ import annotations

import os

import pytest

from support.people import make_who
from usrstore.errors import ReadOnlyError
from usrstore.odb import durable
from usrstore.root import Root
from usrstore.verbs.probing import probe


def everything(folder):
    return sorted(
        (
            os.path.relpath(os.path.join(base, name), folder),
            os.stat(os.path.join(base, name)).st_size,
        )
        for base, folders, files in os.walk(folder)
        for name in (*folders, *files)
    )


@pytest.mark.spec("P-7")
@pytest.mark.parametrize("stored", [False, True])
def test_a_probe_leaves_nothing_behind(tmp_path, stored):
    root = Root(str(tmp_path))
    if stored:
        root.create_store()
    before = everything(tmp_path)
    found = probe(root, make_who(), may_write=True)
    assert (found.writable, found.exclusive_create, found.flock) == (True, True, True)
    assert found.has_store is stored
    assert found.free_bytes > 0
    assert everything(tmp_path) == before


def test_a_probe_of_a_place_served_read_only_writes_nothing(tmp_path):
    def refuse(_when, op, path):
        raise ReadOnlyError(f"{op} {path}")

    with durable.tapped(refuse):
        found = probe(Root(str(tmp_path)), make_who(), may_write=False)
    assert not found.writable
