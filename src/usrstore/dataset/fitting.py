"""A table that is brought, fitted to the registry: columns named, values converted.

Whatever does not fit is written into the offer's problems, and reading goes on: a person is
told everything at once, and the command that would register what the registry lacks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from usrstore.dataset import cells, keys, types
from usrstore.dataset.incoming import ArrowTable, Batch, Table
from usrstore.dataset.namespaces import Namespace
from usrstore.dataset.offer import Offer, Problems, Wish, listed
from usrstore.dataset.types import Type
from usrstore.errors import RegistryError

_GUESS_ROWS = 1000


@contextlib.contextmanager
def reading(
    table: Table | ArrowTable, wish: Wish, known: Mapping[str, Namespace], *, scratch: str
) -> Iterator[Offer]:
    """Read a whole file; its problems are in the offer.

    Args:
        table: the file.
        wish: what of it goes where.
        known: the namespaces of the registry.
        scratch: a path that is free, in a folder of ours.

    Raises:
        InvalidInputError: the file cannot be read.
    """
    reader = _Reader(table, wish, known)
    offer = Offer(reader.types_in_order(), scratch)
    try:
        reader.read_into(offer)
        yield offer
    finally:
        offer.close()


class _Reader:
    """Reads one table into one offer."""

    def __init__(
        self, table: Table | ArrowTable, wish: Wish, known: Mapping[str, Namespace]
    ) -> None:
        self.table = table
        self.wish = wish
        self.namespace = known.get(wish.namespace)
        self.targets: dict[str, str | None] = {}  # column of the file → of the overlay
        self.guesses: dict[str, list[Any]] = {}  # columns that the registry lacks → some values
        self.problems = Problems()
        self.types: dict[str, Type] = {}
        self.strays: set[int] = set()
        if self.namespace is None:
            self.problems.registry.append(f"the namespace {wish.namespace} is not registered")
        if wish.columns is not None:
            self._choose(wish.columns)
        elif table.header is not None:
            self._choose(name for name in table.header if name != wish.key_column)
        elif self.namespace is not None:  # rows of JSON bring their columns as they come
            self.types = {c.name: types.parse(c.type) for c in self.namespace.columns}
        self._check_header()

    def types_in_order(self) -> dict[str, Type]:
        """The columns in the registry's order, so that equal data make equal files."""
        columns = self.namespace.columns if self.namespace else ()
        return {c.name: self.types[c.name] for c in columns if c.name in self.types}

    def _choose(self, names: Iterable[str]) -> None:
        for name in names:
            self._target(name)

    def _target(self, name: str) -> str | None:
        """The overlay's column for one of the file, None if it must not go there."""
        if name in self.targets:
            return self.targets[name]
        prefix = f"{self.wish.namespace}__"
        target: str | None = name if name.startswith(prefix) else prefix + name
        if "__" in name and not name.startswith(prefix):
            self.problems.columns.append(
                f"the column {name} does not belong to the namespace {self.wish.namespace}"
            )
            target = None
        elif target in self.targets.values():
            self.problems.columns.append(f"two columns of the file would become {target}")
            target = None
        elif self.namespace is None or (column := self.namespace.column(str(target))) is None:
            self.guesses[name] = []
            if self.namespace is not None:
                self.problems.registry.append(
                    f"the namespace {self.wish.namespace} has no column {target} "
                    f"(it has {listed([c.name for c in self.namespace.columns])})"
                )
        else:
            self.types[column.name] = types.parse(column.type)
        self.targets[name] = target
        return target

    def _check_header(self) -> None:
        header = self.table.header
        if header is None:
            return
        if self.wish.key_column not in header:
            self.problems.columns.append(
                f"the file has no column {self.wish.key_column} for the key; "
                f"it has {listed(header)}"
            )
        for name in self.wish.columns or ():
            if name not in header:
                self.problems.columns.append(f"the file has no column {name}")
                self.guesses.pop(name, None)
        if self.wish.columns is None and not self.targets:
            self.problems.columns.append("the file has no column beside its key")

    def read_into(self, offer: Offer) -> None:
        offer.problems = self.problems
        seen: dict[str, None] = dict.fromkeys(self.table.header or ())

        def stray(row: int, why: str) -> None:
            self.strays.add(row)
            self.problems.rows.add(row, "the row", None, why)

        for batch in self.table.batches(stray):
            if self.table.header is None:
                seen.update(dict.fromkeys(batch.columns))
                if self.wish.columns is None:
                    self._choose([n for n in batch.columns if n != self.wish.key_column])
            self._guess(batch)
            offer.add(self._keys(batch), self._columns(batch), batch.rows)
        if self.table.header is None:
            self._check_seen(seen)
        self.problems.command = self._command()
        offer.finish()

    def _check_seen(self, seen: Mapping[str, None]) -> None:
        for name in (self.wish.key_column, *(self.wish.columns or ())):
            if name not in seen:
                role = " for the key" if name == self.wish.key_column else ""
                self.problems.columns.append(f"no row of the file has a column {name}{role}")
                self.guesses.pop(name, None)

    def _keys(self, batch: Batch) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        column = batch.columns.get(self.wish.key_column)
        if column is None:
            return pa.nulls(batch.rows, pa.large_string())
        if isinstance(column, list):
            texts = [None if value is None else str(value) for value in column]
            column = pa.array(texts, pa.large_string())
        else:
            column = pc.cast(column, pa.large_string())
        found = keys.normalize(column, self.wish.key)
        nothing = pc.is_in(pc.utf8_lower(found), pa.array(["", "nan", "none"], pa.large_string()))
        missing = pc.or_(pc.fill_null(nothing, False), pc.is_null(found))
        for index in pc.indices_nonzero(missing).to_pylist():
            row = batch.first + index
            if row not in self.strays:
                value = column[index].as_py()
                self.problems.rows.add(row, self.wish.key_column, value, "a key is missing")
        self.strays.clear()
        return pc.if_else(missing, None, found)

    def _columns(self, batch: Batch) -> dict[str, Any]:
        made = {}
        for name, target in self.targets.items():
            if target in self.types and name in batch.columns:
                made[target] = self._column(batch, name, self.types[target])
        return made

    def _column(self, batch: Batch, name: str, kind: Type) -> Any:
        import pyarrow as pa

        column, wanted = batch.columns[name], types.to_arrow(kind)
        if not isinstance(column, list):
            if (cast := _cast(column, kind)) is not None:
                return cast
            column = column.to_pylist()
        elif self.table.cells and (fast := _numbers(column, kind)) is not None:
            return fast
        read = cells.reader(kind, cells=self.table.cells, parse_json=self.wish.parse_json)
        made: list[Any] = []
        for number, value in enumerate(column, batch.first):
            try:
                made.append(read(value))
            except ValueError as exc:
                self.problems.rows.add(number, name, value, str(exc))
                made.append(None)
        return pa.array(made, wanted)

    def _guess(self, batch: Batch) -> None:
        if batch.first > 1:
            return
        for name in self.guesses:
            column = batch.columns.get(name, [])
            first = column[:_GUESS_ROWS]
            self.guesses[name] = first if isinstance(first, list) else first.to_pylist()

    def _command(self) -> str | None:
        """The command that registers what the registry lacks."""
        if not self.guesses or self.problems.columns:
            return None
        old = [f"{c.name}:{c.type}" for c in self.namespace.columns] if self.namespace else []
        new = [
            f"{self.targets[name]}:{cells.guess(known, cells=self.table.cells)}"
            for name, known in self.guesses.items()
        ]
        return f"usr namespace register {self.wish.namespace} --columns '{','.join(old + new)}'" + (
            " --overwrite" if old else ""
        )


def _cast(column: Any, kind: Type) -> Any:
    """An Arrow column as the registered type where nothing can be lost on the way, else None."""
    import pyarrow as pa

    wanted = types.to_arrow(kind)
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), wanted)
    try:
        found = types.of_arrow(column.type)
    except RegistryError:
        return None
    if found != kind and not (_numeric(found) and _numeric(kind)):
        return None
    try:
        return column.cast(wanted)
    except pa.ArrowException:
        return None


def _numbers(texts: list[str | None], kind: Type) -> Any:
    """Cells as whole numbers or float64 all at once; None where one needs a closer look."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if kind.kind != "float64" and "int" not in kind.kind:
        return None
    found = pc.utf8_trim_whitespace(pa.array(texts, pa.large_string()))
    lower = pc.utf8_lower(found)
    nothing = pc.is_in(lower, pa.array(sorted(cells.NOTHING), pa.large_string()))
    letters = pc.match_substring_regex(lower, "[^-+.0-9e]")
    if pc.any(pc.and_(letters, pc.invert(nothing)), min_count=0).as_py():
        return None  # hexadecimal, infinities, mistakes
    try:
        return pc.if_else(nothing, None, found).cast(types.to_arrow(kind))
    except pa.ArrowException:
        return None


def _numeric(kind: Type) -> bool:
    return "int" in kind.kind or kind.kind.startswith("float")
