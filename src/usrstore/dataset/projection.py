"""Columns of one dataset for the rows of another: joined by a column that both have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from usrstore.dataset import keys
from usrstore.dataset.query import View
from usrstore.errors import InvalidInputError, NotFoundError


@dataclass(frozen=True)
class Projection:
    """What would be projected.

    Attributes:
        columns: of the source.
        rows, matched: of the destination, and those that the source has something for.
        missing: keys of the destination that the source lacks, the first few.
    """

    columns: tuple[str, ...]
    rows: int
    matched: int
    missing: tuple[str, ...]
    _source: View
    _join: str
    _ids: Any
    _keys: Any

    def reader(self, scratch: str) -> Any:
        """A stream of batches: id, and the columns.

        Args:
            scratch: an empty folder for a large join.

        Raises:
            ChangedWhileReadError: at its end, if the source was written meanwhile.
        """
        fields = [self._source.schema.field(name) for name in self.columns]
        schema = pa.schema([("id", pa.string()), *fields])
        return pa.RecordBatchReader.from_batches(schema, self._batches(schema, scratch))

    def _batches(self, schema: Any, scratch: str) -> Iterator[Any]:
        names = list(dict.fromkeys([self._join, *self.columns]))
        for batch in self._source.batches(names, scratch=scratch):
            places = pc.index_in(self._keys, _text(batch.column(self._join)), skip_nulls=True)
            ids = self._ids.filter(places.is_valid())
            found = batch.take(places.drop_null())
            columns = [ids, *(found.column(name) for name in self.columns)]
            yield pa.record_batch(columns, schema=schema)
        self._source.check()


def plan(
    source: View,
    target: View,
    namespace: str,
    columns: Sequence[str] | None,
    *,
    source_join: str,
    target_join: str,
    scratch: str,
) -> Projection:
    """Look which rows of the target the source has something for.

    Args:
        source, target: both datasets.
        namespace: whose columns.
        columns: with or without their prefix; None for all that the source has.
        source_join, target_join: columns whose text is compared.
        scratch: an empty folder for a large join.

    Raises:
        NotFoundError: columns that are not there.
        InvalidInputError: rows of the source that share a key.
    """
    prefix = f"{namespace}__"
    if columns is None:
        names = tuple(name for name in source.columns if name.startswith(prefix))
    else:
        names = tuple(dict.fromkeys(n if "__" in n else prefix + n for n in columns))
    lacking = [name for name in (source_join, *names) if name not in source.schema.names]
    if lacking or not names:
        what = f"no column {', '.join(lacking)}" if lacking else f"no columns of {namespace}"
        raise NotFoundError(f"the source has {what}; nothing was changed", code="column-unknown")
    if target_join not in target.schema.names:
        raise NotFoundError(
            f"the destination has no column {target_join}; nothing was changed",
            code="column-unknown",
        )
    held = _column(source, source_join, scratch)
    if twice := keys.repeated(held):
        raise InvalidInputError(
            f"rows of the source share a {source_join}: {', '.join(twice)}; nothing was changed",
            hint="join by a column that tells its rows apart",
        )
    ids = _column(target, "id", scratch).cast(pa.string())
    wanted = _column(target, target_join, scratch)
    found = pc.is_in(wanted, held, skip_nulls=True)
    missing = wanted.filter(pc.and_(pc.invert(found), wanted.is_valid()))
    return Projection(
        names, len(wanted), found.true_count, tuple(missing.to_pylist()), source, source_join,
        ids, wanted,
    )  # fmt: skip


def _column(view: View, name: str, scratch: str) -> Any:
    pieces = [_text(batch.column(0)) for batch in view.batches([name], scratch=scratch)]
    return pa.chunked_array(pieces, pa.large_string()).combine_chunks()


def _text(column: Any) -> Any:
    """Values as they are compared: trimmed text, null where there is none."""
    text = keys.normalize(column, "id")
    return pc.if_else(pc.equal(text, ""), None, text)
