"""Damage to a store, and where in it things lie."""

from __future__ import annotations

import time

from usrstore.odb import reach


def remember(place):
    """Let the stat cache know the files: none of them changed within this clock tick."""
    time.sleep(0.03)
    place.site().capture(record=True)


def data_packs(place):
    found = {pack.pack: pack for pack in place.root.database.packs() if pack.holds_data}
    return [(place.path / ".usr" / "packs" / f"{name}.pack", pack) for name, pack in found.items()]


def pack_of(place, path, oid=None):
    """The pack file that holds the first chunk of a file of a state."""
    get = place.root.database.get
    entry = reach.listing(get, place.manifest(oid).tree)[path]
    chunk, _ = next(iter(reach.chunks(get, entry)))
    found = place.root.database.find(chunk)
    return place.path / ".usr" / "packs" / f"{found.pack.pack}.pack", found.row


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
