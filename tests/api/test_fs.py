"""`usr://`: any state is read where it lies, by whoever reads through fsspec."""

from __future__ import annotations

import fsspec
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import usrstore
import usrstore.dataset as usr
from support import datasets
from support.damage import flip, pack_of
from usrstore.errors import IncompleteError, IntegrityError, NotFoundError

NAME = "densegen/x"


@pytest.fixture
def root(home):
    """A dataset with a kept state that has a tag, and a folder that went on since."""
    table = usr.create(home, NAME, {"tool": "test"})
    table.register("infer", "score:float64")
    table.add_sequences(["ACGT", "GGCC"])
    table.write_overlay_part([{"id": usr.row_id("ACGT"), "score": 1.0}], "infer")
    handle = usrstore.open(str(home), usrstore.who("ada"))[NAME]
    handle.commit("first")
    handle.tag("v1")
    table.add_sequences(["TTTT"])
    return home


def files(root):
    return fsspec.filesystem("usr", root=str(root), skip_instance_cache=True)


def test_pandas_reads_a_tagged_state_without_checkout(root):
    options = {"root": str(root)}
    frame = pd.read_parquet(f"usr://{NAME}@v1/records.parquet", storage_options=options)
    assert frame["sequence"].tolist() == ["ACGT", "GGCC"]
    assert pq.read_table(root / NAME / "records.parquet").num_rows == 3


def test_arrow_reads_a_file_and_a_folder_of_parts(root):
    lake = files(root)
    assert pq.read_table(f"{NAME}@v1/records.parquet", filesystem=lake).num_rows == 2
    parts = ds.dataset(f"{NAME}@v1/_derived/infer", filesystem=lake).to_table()
    assert parts.column("infer__score").to_pylist() == [1.0]


def test_every_file_of_a_state_is_there_byte_for_byte(root):
    lake = files(root)
    kept = usrstore.open(str(root), usrstore.who("ada"))[NAME]
    wanted = kept.files(f"{NAME}@v1")
    found = lake.find(f"{NAME}@v1", detail=True)
    assert {path.removeprefix(f"{NAME}@v1/"): row["size"] for path, row in found.items()} == wanted
    kept.checkout(f"{NAME}@v1")
    for path in wanted:
        assert lake.cat_file(f"usr://{NAME}@v1/{path}") == (root / NAME / path).read_bytes()
        assert (
            lake.cat_file(f"{NAME}/{path}", start=3, end=9)
            == ((root / NAME / path).read_bytes()[3:9])
        )


def test_a_range_reads_only_the_chunks_that_it_touches(root, monkeypatch):
    (root / NAME / "big.bin").write_bytes(bytes(range(256)) * 40_000)
    handle = usrstore.open(str(root), usrstore.who("ada"))[NAME]
    handle.commit("big")
    lake, read = files(root), []
    get = type(lake.root.database).get

    def counting(self, kind, oid):
        data = get(self, kind, oid)
        read.append(len(data))
        return data

    file = lake.open(f"{NAME}/big.bin", cache_type="none")
    monkeypatch.setattr(type(lake.root.database), "get", counting)
    file.seek(5_000_001)
    assert file.read(4) == bytes(at % 256 for at in range(5_000_001, 5_000_005))
    assert 0 < sum(read) <= 1 << 20


def test_the_newest_state_of_a_light_dataset_is_read_from_its_folder(make_pair):
    pair = make_pair()
    pair.here.write({"records.parquet": b"x" * 200_000, "a/b.txt": b"text"})
    pair.push()
    lake = files(pair.here.path)
    assert lake.cat_file("ns/x/a/b.txt") == b"text"
    assert lake.cat_file("ns/x/records.parquet") == b"x" * 200_000
    (pair.here.folder / "a" / "b.txt").write_bytes(b"gone")
    with pytest.raises(IncompleteError):
        lake.cat_file("ns/x/a/b.txt")


def test_bytes_that_do_not_hash_to_their_name_are_not_given(make_pair):
    place = make_pair({"records.parquet": datasets.noise("base", 400_000)}).here
    place.commit()
    pack, row = pack_of(place, "records.parquet")
    (place.folder / "records.parquet").unlink()  # or a whole copy would mend it
    flip(pack, row.offset + 5)
    lake = files(place.path)
    with pytest.raises(IntegrityError):
        lake.cat_file("ns/x/records.parquet")
    tail = lake.cat_file("ns/x/records.parquet", start=399_000, end=400_000)
    assert tail == datasets.noise("base", 400_000)[399_000:]


def test_what_is_not_there_is_said_as_file_systems_say_it(root):
    lake = files(root)
    assert not lake.exists(f"{NAME}@v1/nothing")
    assert lake.isdir(f"{NAME}@v1/_derived")
    for path in (f"{NAME}@v9/records.parquet", "nowhere/x/y", ""):
        with pytest.raises(FileNotFoundError):
            lake.info(path)
    with pytest.raises(OSError, match="read-only"):
        lake.open(f"{NAME}@v1/records.parquet", "wb")
    with pytest.raises(NotFoundError):
        files(root / "absent")
