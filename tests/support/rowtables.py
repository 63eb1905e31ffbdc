"""Tables as dicts {key: row}, written in any layout, and an oracle of how two of them differ."""

from __future__ import annotations

import math
import os

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from usrstore.dataset.tablefile import TableFile
from usrstore.worktree import cut

COLUMNS = {
    "id": pa.string(),
    "n": pa.int64(),
    "x": pa.float64(),
    "s": pa.string(),
    "v": pa.list_(pa.float32()),
    "p": pa.struct([("a", pa.int32()), ("b", pa.list_(pa.string()))]),
}
NAMES = [name for name in COLUMNS if name != "id"]
KEYS = [f"k{number:02}" for number in range(16)]

rows = st.fixed_dictionaries(
    {
        "n": st.none() | st.integers(0, 3),
        "x": st.none() | st.sampled_from([0.0, 1.5, math.nan, math.inf]),
        "s": st.none() | st.sampled_from(["", "a", "b\t\n"]),
        "v": st.none() | st.lists(st.none() | st.sampled_from([2.0, math.nan]), max_size=2),
        "p": st.none()
        | st.builds(
            lambda a, b: {"a": a, "b": b},
            st.none() | st.just(1),
            st.none() | st.lists(st.just("z"), max_size=1),
        ),
    }
)


@st.composite
def pairs(draw):
    """Two lists of (key, row), each key once, in any order, the second mostly like the first."""
    one = draw(st.lists(st.tuples(st.sampled_from(KEYS), rows), unique_by=lambda item: item[0]))
    two = []
    for key, row in one:
        match draw(st.sampled_from(["keep", "keep", "keep", "change", "remove"])):
            case "keep":
                two.append((key, row))
            case "change":
                two.append((key, {**row, **draw(changed_row())}))
    fresh = [key for key in KEYS if key not in dict(one)]
    if fresh:
        new = st.lists(
            st.tuples(st.sampled_from(fresh), rows), unique_by=lambda i: i[0], max_size=4
        )
        two += draw(new)
    if draw(st.booleans()):
        two = draw(st.permutations(two))
    return one, two


@st.composite
def changed_row(draw):
    names = draw(st.sets(st.sampled_from(NAMES), min_size=1, max_size=2))
    row = draw(rows)
    return {name: row[name] for name in names}


def table(pairs):
    columns = {
        name: pa.array([key if name == "id" else row[name] for key, row in pairs], kind)
        for name, kind in COLUMNS.items()
    }
    return pa.table(columns)


def write(path, pairs, *, group=100, **options):
    pq.write_table(table(pairs), path, row_group_size=group, **options)
    return str(path)


def with_chunks(path):
    """A file whose chunks are known, as those of a state are."""
    fd = os.open(path, os.O_RDONLY)
    try:
        chunks = list(cut.cut_file(fd, os.path.getsize(path), None, None).chunks)
    finally:
        os.close(fd)
    return TableFile(path, lambda: path, lambda: chunks)


def expected(one, two):
    """The oracle: keys added, keys removed, {(key, column): (old, new)}; values as text."""
    before, after = dict(one), dict(two)
    cells = {
        (key, name): (repr(row[name]), repr(after[key][name]))
        for key, row in before.items()
        if key in after
        for name in NAMES
        if repr(row[name]) != repr(after[key][name])
    }
    return after.keys() - before.keys(), before.keys() - after.keys(), cells


def found(deltas):
    """The same of what was found."""
    added, removed, cells = [], [], {}
    for delta in deltas:
        added += delta.added.column("id").to_pylist()
        removed += delta.removed.column("id").to_pylist()
        for name, some in delta.cells.items():
            for key, old, new in zip(
                some.keys.to_pylist(), some.old.to_pylist(), some.new.to_pylist(), strict=True
            ):
                assert (key, name) not in cells, "a value is told once"
                cells[key, name] = (repr(old), repr(new))
    assert len(set(added)) == len(added)
    assert len(set(removed)) == len(removed)
    return set(added), set(removed), cells
