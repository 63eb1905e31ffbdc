"""What a column holds, in one pass: how many values, their range, some of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as at

from usrstore.dataset import values


@dataclass
class Description:
    """A column.

    Attributes:
        name, type, source: what it is, and which overlay (or `base`) has it.
        rows, nulls: counted, all of them.
        least, greatest: of numbers, moments and flags; of a text or list, its length.
        mean: of numbers, without NaN; of a text or list, of its length.
        distinct: different values among the first `sampled` that are not null.
        example: the first value that is not null.
    """

    name: str
    type: str
    source: str
    rows: int = 0
    nulls: int = 0
    least: Any = None
    greatest: Any = None
    mean: float | None = None
    distinct: int = 0
    sampled: int = 0
    example: Any = None
    _sum: float = field(default=0.0, repr=False)
    _summed: int = field(default=0, repr=False)
    _seen: set[str] = field(default_factory=set, repr=False)

    def add(self, column: Any, sample: int) -> None:
        """Take the values of one more batch."""
        self.rows += len(column)
        self.nulls += column.null_count
        present = column.drop_null()
        if not len(present):
            return
        if self.sampled < sample:
            some = values.column_values(present.slice(0, sample - self.sampled))
            if not self.sampled:
                self.example = some[0]
            self.sampled += len(some)
            self._seen |= {values.dumps(value) for value in some}
            self.distinct = len(self._seen)
        self._measure(present)

    def _measure(self, present: Any) -> None:
        kind = present.type
        if at.is_string(kind) or at.is_large_string(kind):
            present = pc.utf8_length(present)
        elif at.is_list(kind) or at.is_large_list(kind) or at.is_fixed_size_list(kind):
            present = pc.list_value_length(present)
        elif at.is_nested(kind) or at.is_dictionary(kind) or at.is_null(kind):
            return
        if at.is_float16(present.type):
            present = present.cast(pa.float32())
        if at.is_floating(present.type):
            present = present.filter(pc.is_finite(present))
        if not len(present):
            return
        ends = pc.min_max(present)
        low, high = (values.scalar_value(ends[end]) for end in ("min", "max"))
        self.least = low if self.least is None else min(self.least, low)
        self.greatest = high if self.greatest is None else max(self.greatest, high)
        if at.is_integer(present.type) or at.is_floating(present.type):
            self._sum += pc.sum(present.cast(pa.float64())).as_py()
            self._summed += len(present)
            self.mean = self._sum / self._summed


def describe(
    batches: Iterable[Any], schema: Any, sources: dict[str, str], *, sample: int
) -> list[Description]:
    """Every column of some record batches.

    Args:
        batches: the rows.
        schema: theirs.
        sources: column → where it comes from.
        sample: how many values are looked at for `distinct`.
    """
    found = [Description(f.name, str(f.type), sources.get(f.name, "base")) for f in schema]
    for batch in batches:
        for description, column in zip(found, batch.columns, strict=True):
            description.add(column, sample)
    return found
