"""What a person offers to attach: rows as the registry wants them, and all that is wrong.

Converted rows wait in memory, or in a scratch file once there are many; only keys are always
in memory: at the peak, while they are compared, about 500 bytes a row. Nothing here touches the dataset.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from usrstore.dataset import keys, types
from usrstore.dataset.parquetfile import TableWriter
from usrstore.dataset.schema import RowProblems
from usrstore.dataset.types import Type
from usrstore.errors import InvalidInputError, RegistryError
from usrstore.odb import durable

HOLD_BYTES = 64 << 20
_LISTED = 5


@dataclass(frozen=True)
class Wish:
    """What is to be attached.

    Attributes:
        namespace: where to.
        key: one of `keys.KEYS`.
        key_column: the column of the file that holds the keys.
        columns: of the file; None for all but the key.
        parse_json: whether text may hold lists and structs as JSON.
    """

    namespace: str
    key: str
    key_column: str
    columns: tuple[str, ...] | None = None
    parse_json: bool = True


@dataclass
class Problems:
    """All that is wrong with a file, in the order in which a person would mend it."""

    registry: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    rows: RowProblems = field(default_factory=RowProblems)
    command: str | None = None

    def check(self, path: str, where: str) -> None:
        """Raises: RegistryError, InvalidInputError: there are problems; all are named."""
        count = len(self.registry) + len(self.columns) + self.rows.count
        if not count:
            return
        lines = [*(f"registry: {line}" for line in self.registry), *self.columns]
        lines += [str(problem) for problem in self.rows.found]
        hidden = self.rows.count - len(self.rows.found)
        lines += [f"… and {hidden} more"] if hidden else []
        word = "1 problem" if count == 1 else f"{count} problems"
        message = f"{path} cannot be attached to {where}: {word}; nothing was written:"
        message += "".join(f"\n  {line}" for line in lines)
        hint = "correct these, then run the same command again"
        if self.registry:
            raise RegistryError(message, hint=self.command or hint)
        raise InvalidInputError(message, hint=hint, code="attach-input")


class Offer:
    """The rows of a file that could be read, as the registry wants them.

    Attributes:
        schema: the columns, named as in the overlay, key excepted.
        brought: those of them that some row had.
        keys: of all rows that were read, as they are compared (large_string).
        rows: how many the file has.
        problems: what was found wrong.
    """

    def __init__(self, columns: Mapping[str, Type], scratch: str) -> None:
        import pyarrow as pa

        self.schema = pa.schema([(name, types.to_arrow(kind)) for name, kind in columns.items()])
        self.brought: dict[str, None] = {}
        self.keys: Any = None
        self.rows = 0
        self.problems = Problems()
        self._keys: list[Any] = []
        self._held: list[Any] = []
        self._bytes = 0
        self._scratch = scratch
        self._spool: durable.Spool | None = None
        self._spilled: list[tuple[int, int]] = []

    def add(self, key_values: Any, columns: dict[str, Any], rows: int) -> None:
        """Take a batch; a column that it lacks is null."""
        import pyarrow as pa

        arrays = [
            columns[name] if name in columns else pa.nulls(rows, kind)
            for name, kind in zip(self.schema.names, self.schema.types, strict=True)
        ]
        batch = pa.record_batch(arrays, schema=self.schema)
        self.rows += rows
        self.brought.update(dict.fromkeys(columns))
        self._keys.append(key_values)
        self._held.append(batch)
        self._bytes += batch.nbytes
        if self._bytes > HOLD_BYTES:
            self._spill()

    def _spill(self) -> None:
        if self._spool is None:
            durable.make_folder(os.path.dirname(self._scratch))
            self._spool = durable.Spool.create(self._scratch)
            durable.remove(self._scratch)  # nobody has to tidy up after a crash
        for batch in self._held:
            data = batch.serialize()
            self._spilled.append((self._spool.size, data.size))
            self._spool.write(memoryview(data))
        self._held, self._bytes = [], 0

    def batches(self) -> Iterator[Any]:
        """The record batches in order, without the key."""
        import pyarrow as pa

        for place, size in self._spilled:
            assert self._spool is not None
            yield pa.ipc.read_record_batch(
                pa.py_buffer(self._spool.read_at(place, size)), self.schema
            )
        yield from self._held

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that were brought, in the registry's order."""
        return tuple(name for name in self.schema.names if name in self.brought)

    def part_schema(self, key: str) -> Any:
        """The columns of the overlay file: the key, then what was brought."""
        import pyarrow as pa

        return pa.schema([(key, pa.string()), *(self.schema.field(name) for name in self.columns)])

    def write(self, writer: TableWriter, key: str, present: Any) -> None:
        """Write the rows that are present.

        Args:
            writer: of a file with `part_schema(key)`.
            key: one of `keys.KEYS`.
            present: a boolean for each row.
        """
        import pyarrow as pa

        schema, row, every = self.part_schema(key), 0, present.true_count == len(present)
        for batch in self.batches():
            key_values = self.keys.slice(row, len(batch)).cast(pa.string())
            columns = [key_values, *(batch.column(name) for name in self.columns)]
            table = pa.Table.from_arrays(columns, schema=schema)
            writer.write(table if every else table.filter(present.slice(row, len(batch))))
            row += len(batch)

    def finish(self) -> None:
        import pyarrow as pa

        self.keys = pa.chunked_array(self._keys, pa.large_string()).combine_chunks()
        self._keys = []

    def close(self) -> None:
        """Let go of the scratch file."""
        if self._spool is not None:
            self._spool.close()


def check_keys(offer: Offer, base: Any, *, allow_missing: bool, key_column: str) -> Any:
    """Which rows of an offer have a row of the base; what is wrong goes to its problems.

    Args:
        offer: as it was read.
        base: the keys of the base, as they are compared; None if it has none of the kind.
        allow_missing: whether keys that the base lacks are passed over.
        key_column: how the file calls them.

    Returns:
        A boolean Arrow array, one for each row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    problems = offer.problems.rows
    for key in keys.repeated(offer.keys, limit=_LISTED):
        rows = pc.indices_nonzero(pc.equal(offer.keys, key)).to_pylist()
        where = listed([str(row + 1) for row in rows])
        problems.add(rows[1] + 1, key_column, key, f"a duplicate key (rows {where})")
    if base is None:
        return pa.nulls(len(offer.keys), pa.bool_())
    found = pc.is_in(offer.keys, value_set=base.combine_chunks())
    present = pc.and_(found, pc.is_valid(offer.keys))
    if not allow_missing:
        lacking = pc.and_(pc.invert(found), pc.is_valid(offer.keys))
        for index in pc.indices_nonzero(lacking).to_pylist():
            reason = "no row of the dataset has this key (--allow-missing passes over such rows)"
            problems.add(index + 1, key_column, offer.keys[index].as_py(), reason)
    return present


def listed(names: Sequence[str]) -> str:
    """The first few, and that there are more."""
    return ", ".join(names[:_LISTED]) + (" …" if len(names) > _LISTED else "")
