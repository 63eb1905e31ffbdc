"""Do the overlays keep their promises: to readers, to the base, to the registry?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow.compute as pc

from usrstore.dataset import keys, locate, namespaces, overlay, reserved, rowgroups, types
from usrstore.dataset.flaws import Flaws
from usrstore.dataset.namespaces import Namespace
from usrstore.dataset.overlay import OverlayFile
from usrstore.errors import IntegrityError, OverlayError, RegistryError
from usrstore.objects.sections import PRIMARY_FILE

_JOIN_BYTES = 512 << 20
_TOMBSTONES = Namespace(
    namespaces.TOMBSTONES,
    tuple(namespaces.Column(name, kind) for name, kind in reserved.TOMBSTONE_COLUMNS.items()),
)


def check(
    folder: str,
    registry: Mapping[str, Namespace] | None,
    flaws: Flaws,
    *,
    base: Any,
    scratch: str,
) -> list[OverlayFile]:
    """Look at all overlay files; gives those whose footers can be read.

    Args:
        folder: the dataset.
        registry: its namespaces; None if there is no registry to hold them against.
        flaws: takes what is found.
        base: the schema of the base; None if it cannot be read.
        scratch: an empty folder to spill into.
    """
    try:
        paths = overlay.find(folder)
    except OverlayError as exc:
        flaws.add(exc.code, "_derived", exc.message)
        return []
    found: list[OverlayFile] = []
    for namespace, files in paths.items():
        good = [item for path in files if (item := _file(folder, path, flaws)) is not None]
        for item in good:
            _columns(item, registry, flaws)
        if len({item.key for item in good}) > 1:
            listed = ", ".join(sorted({item.key for item in good}))
            flaws.add("overlay-keys", f"_derived/{namespace}", f"parts are keyed by {listed}")
        elif good and base is not None and keys.source(good[0].key) in base.names:
            _places(folder, good, flaws, scratch)
        found += good
    return found


def _file(folder: str, path: str, flaws: Flaws) -> OverlayFile | None:
    """The footer of a file, and every page of it decoded once."""
    try:
        item = overlay.inspect(folder, path)
        start = 0
        for batch in rowgroups.batches(folder, path, item.schema.names):
            _values(batch, item, start, flaws)
            start += len(batch)
    except (OverlayError, IntegrityError) as exc:
        flaws.add(exc.code, path, exc.message)
        return None
    return item


def _values(batch: Any, item: OverlayFile, start: int, flaws: Flaws) -> None:
    names = batch.schema.names
    column = batch.column(names.index(item.key_column))
    for at in pc.indices_nonzero(column.is_null()).to_pylist() if column.null_count else ():
        flaws.add(
            "overlay-key-null", item.path, "a key is missing",
            row=start + at, column=item.key_column, value=None,
        )  # fmt: skip
    for name, words in reserved.STATE_WORDS.items():
        if name not in names:
            continue
        values = batch.column(names.index(name)).to_pylist()
        for at, value in enumerate(values):
            if value is not None and value not in words:
                message = f"one of {', '.join(words)}"
                flaws.add(
                    "state-word", item.path, message, row=start + at, column=name, value=value
                )


def _columns(item: OverlayFile, registry: Mapping[str, Namespace] | None, flaws: Flaws) -> None:
    known = _TOMBSTONES if item.namespace == namespaces.TOMBSTONES else None
    if known is None:
        if registry is None:
            return
        known = registry.get(item.namespace)
    if known is None:
        message = f"the namespace {item.namespace} is not registered"
        flaws.add("overlay-unregistered", item.path, message)
        return
    for name in item.columns:
        column = known.column(name)
        if column is None:
            message = f"the column {name} is not in the namespace {item.namespace}"
            flaws.add("overlay-column", item.path, message)
            continue
        kind = item.schema.field(name).type
        try:
            same = types.of_arrow(kind) == types.parse(column.type)
        except RegistryError:
            same = False
        if not same:
            message = f"the column {name} is {kind}, and is registered as {column.type}"
            flaws.add("overlay-type", item.path, message)


def _places(folder: str, files: list[OverlayFile], flaws: Flaws, scratch: str) -> None:
    """Keys that come twice in one file, and keys that no row of the base has."""
    key = files[0].key

    def streams() -> list[Iterator[Any]]:
        return [_keys(folder, item.path, item.key_column, key) for item in files]

    for nth, text in locate.strays(
        _keys(folder, PRIMARY_FILE, keys.source(key), key),
        streams(),
        scratch=scratch,
        memory_bytes=_JOIN_BYTES,
    ):
        item, row = _where(files, nth)
        flaws.add(
            "overlay-orphans", item.path, "no row of the base has this key",
            row=row, column=item.key_column, value=text,
        )  # fmt: skip
    for text, rows, first in locate.repeats(streams(), scratch=scratch, memory_bytes=_JOIN_BYTES):
        item, row = _where(files, first)
        flaws.add(
            "overlay-duplicate", item.path, f"{rows} rows of this file have this key",
            row=row, column=item.key_column, value=text,
        )  # fmt: skip


def _where(files: list[OverlayFile], nth: int) -> tuple[OverlayFile, int]:
    """The file and its row of the `nth` row of all files together."""
    for item in files:
        if nth < item.rows:
            return item, nth
        nth -= item.rows
    raise AssertionError


def _keys(folder: str, path: str, column: str, key: str) -> Iterator[Any]:
    for batch in rowgroups.batches(folder, path, [column]):
        yield keys.normalize(batch.column(0), key)
