"""A store of ten million objects: open it, and ask for a hundred thousand at once."""

from __future__ import annotations

import json
import os
import random
import sys
import time

from lab import HERE, Lab
from measure import Contender, Sample, Table, in_turn

from usrstore.objects.ids import ID_BYTES, Kind, ObjectId
from usrstore.odb import packindex
from usrstore.odb.backend.folder import FolderBackend
from usrstore.odb.database import Database
from usrstore.odb.packindex import MAGIC, MAX_OBJECTS

ASKED = 100_000


def index(lab: Lab) -> list[Table]:
    """Packs that have an index and no objects: what is asked here reads none."""
    packs = 4 if lab.quick else 39
    total = packs * MAX_OBJECTS
    store = lab.path("index")
    os.makedirs(os.path.join(store, "packs"))
    for number in range(packs):
        make_pack(os.path.join(store, "packs"), number)
    name = f"usr, {total / 1e6:.1f} million objects in {packs} packs"
    cat, few = "cat the same files", "python, usrstore imported"
    code = "import usrstore.odb.database, usrstore.odb.backend.folder"
    samples = in_turn(
        [
            Contender(cat, lambda: lab.shell('cat "$1"/* > /dev/null', f"{store}/packs")),
            Contender(few, lambda: lab.run(sys.executable, "-c", code)),
            Contender(name, lambda: ask(lab, store)),
        ],
        lab.rounds,
    )
    said = [json.loads(s.output) for s in samples[name]]
    table = Table(f"{total / 1e6:.1f} million objects")
    table.add_seconds(samples, cat)
    table.add_seconds(samples, few)
    table.add_seconds(samples, name, against=cat)
    table.add_limit("open", [s["open"] for s in said], "s", 1.0)
    table.add_limit("first object", [s["first"] for s in said], "s", 1.0)
    table.add_limit(f"which of {ASKED} are missing", [s["ask"] for s in said], "s", 1.0)
    table.add("one object, once warm", [s["one"] * 1e3 for s in said], "ms")
    table.add_limit("peak memory, maps included", [s.peak_mb for s in samples[name]], "MB", 1024)
    return [table]


def make_pack(folder: str, number: int) -> None:
    source = random.Random(number)
    raw = source.randbytes(MAX_OBJECTS * ID_BYTES)
    ids = sorted(raw[at : at + ID_BYTES] for at in range(0, len(raw), ID_BYTES))
    row = packindex.Row(len(MAGIC), 0, 0, Kind.CHUNK, 0)
    pack, data = packindex.encode((ObjectId(oid), row) for oid in ids)
    with open(os.path.join(folder, f"{pack}.pack"), "wb") as file:
        file.write(MAGIC + data + packindex.encode_trailer(len(MAGIC), MAX_OBJECTS, pack))


def ask(lab: Lab, store: str) -> Sample:
    return lab.run(sys.executable, os.path.join(HERE, "index.py"), store)


def answer(store: str) -> dict[str, float]:
    """Half of what is asked for is there."""
    database = Database(FolderBackend(store), None)
    began = time.perf_counter()
    database.refresh()
    opened = time.perf_counter()
    asked = _some(store)
    mark = time.perf_counter()
    assert database.has(asked[0])
    first = time.perf_counter()
    missing = database.missing(asked)
    done = time.perf_counter()
    assert len(missing) == ASKED // 2
    warm = asked[:: ASKED // 1000]
    for oid in warm:
        database.has(oid)
    again = time.perf_counter()
    for oid in warm:
        database.has(oid)
    one = (time.perf_counter() - again) / len(warm)
    return {"open": opened - began, "first": first - mark, "ask": done - first, "one": one}


def _some(store: str) -> list[ObjectId]:
    """As many ids that are there as ids that are not, read around the database."""
    names = sorted(os.listdir(os.path.join(store, "packs")))
    each = ASKED // 2 // len(names) + 1
    found: list[ObjectId] = []
    for name in names:
        with open(os.path.join(store, "packs", name), "rb") as file:
            file.seek(len(MAGIC))
            for _ in range(each):
                found.append(ObjectId(file.read(ID_BYTES)))
                file.seek(ID_BYTES * (MAX_OBJECTS // each - 1), os.SEEK_CUR)
    source = random.Random(1 << 20)
    absent = [ObjectId(source.randbytes(ID_BYTES)) for _ in range(ASKED // 2)]
    mixed = found[: ASKED // 2] + absent
    source.shuffle(mixed)
    mixed.remove(found[0])
    return [found[0], *mixed]


if __name__ == "__main__":
    print(json.dumps(answer(sys.argv[1])))
