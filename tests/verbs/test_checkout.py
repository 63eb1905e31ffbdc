"""A checkout copies stretches of packs unread, and believes none of it before it is hashed."""

from __future__ import annotations

import shutil

import pytest

from support import datasets
from support.damage import flip, pack_of
from usrstore.errors import IntegrityError
from usrstore.objects.ids import Kind
from usrstore.odb.backend.folder import FolderBackend
from usrstore.odb.pack import PackWriter
from usrstore.verbs.checkout import checkout

FILES = {**datasets.old_files(), "records.parquet": datasets.noise("primary", 300_000)}


@pytest.fixture
def place(make_pair):
    """A kept state whose folder is gone."""
    place = make_pair(FILES).here
    place.commit()
    shutil.rmtree(place.folder)
    return place


def test_a_folder_that_is_gone_comes_back_byte_for_byte(place):
    checkout(place.site(), place.head())
    assert place.read() == FILES


def test_a_damaged_chunk_is_taken_from_another_pack(place):
    path, row = pack_of(place, "records.parquet")
    packs = place.root.database.packs()
    oid = next(oid for pack in packs for oid, found in pack.index.items() if found == row)
    data = place.root.database.get(Kind.CHUNK, oid)
    writer = PackWriter(str(path.parent))
    writer.add(Kind.CHUNK, oid, data)
    writer.finish(FolderBackend(str(path.parent.parent)))
    flip(path, row.offset + 5)
    checkout(place.site(), place.head())
    assert place.read() == FILES


def test_damage_that_nothing_heals_is_named_and_no_folder_appears(place):
    path, row = pack_of(place, "records.parquet")
    flip(path, row.offset + 5)
    with pytest.raises(IntegrityError, match=rf"in pack {path.name[:12]}.* does not hash"):
        checkout(place.site(), place.head())
    assert not place.folder.exists()
    flip(path, row.offset + 5)
    checkout(place.site(), place.head())
    assert place.read() == FILES
