"""Overlays: columns that were derived later, beside the rows that they belong to.

A namespace has either one compact file, `_derived/<ns>.parquet`, or parts that each writer
adds to and nobody changes, `_derived/<ns>/part-*.parquet`; both at once is an error. A file
names its namespace and its key in its footer; its first column is the key, the others are
`<ns>__<field>`. What a reader sees (`overlaying` computes it):

- a file's rank is (created_at, file name); the later one is the newer one;
- for each key and column, the newest value that is not null: a null hides nothing;
- where no overlay has a value, that of the base column of the same name shows through;
- keys are compared without the white space around them, `sequence_ci` also without case;
- a key that no row of the base has is an orphan: no error, and no row.

This room reads folders and footers; it changes nothing.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from usrstore.dataset import overlaypaths, tablefile
from usrstore.dataset.keys import KEYS
from usrstore.dataset.tablefile import Folder
from usrstore.errors import OverlayError, UsrError
from usrstore.objects.sections import DERIVED_FOLDER

ARCHIVED = "_archived"
TOMBSTONES = "usr"
STATE = "usr_state"

META_NAMESPACE = "usr:overlay_namespace"
META_KEY = "usr:overlay_key"
META_CREATED_AT = "usr:overlay_created_at"
META_REGISTRY = "usr:registry_hash"
META_CONTRACT = "usr:namespace_contract_hash"

_STAMP = re.compile(r"/part-([0-9]{8})T([0-9]{6})([0-9]{6})Z-[^/]*\Z")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


find = overlaypaths.find


@dataclass(frozen=True)
class OverlayFile:
    """One overlay file, as its footer tells.

    Attributes:
        path: in the dataset folder, '/'-separated.
        namespace, key: what it says it is.
        key_column: the column that holds the keys.
        created_us: UTC microseconds since 1970; 0 if it does not say.
        registry_hash, contract_hash: what its writer wrote it under, or None.
        rows: how many.
        size: in bytes.
        schema: a `pyarrow.Schema`, with its metadata.
        nulls: for each column, how many nulls it holds, or None where the footer is silent.
    """

    path: str
    namespace: str
    key: str
    key_column: str
    created_us: int
    registry_hash: str | None
    contract_hash: str | None
    rows: int
    size: int
    schema: Any
    nulls: Mapping[str, int | None]

    @property
    def rank(self) -> tuple[int, str]:
        """Files of a namespace in this order are oldest first."""
        return (self.created_us, os.path.basename(self.path))

    @property
    def columns(self) -> list[str]:
        """The overlay's own columns, without the key."""
        return [name for name in self.schema.names if name != self.key_column]

    @property
    def filled(self) -> list[str]:
        """The columns that hold a value, as far as the footer tells."""
        if not self.rows:
            return []
        return [name for name in self.columns if self.nulls.get(name) != self.rows]


@dataclass(frozen=True)
class Overlay:
    """All files of one namespace, oldest first.

    Attributes:
        namespace: its name.
        files: at least one.
        compact: whether it is the one compact file.
    """

    namespace: str
    files: tuple[OverlayFile, ...]
    compact: bool

    @property
    def key(self) -> str:
        return self.files[0].key

    @property
    def rows(self) -> int:
        """Rows of all files; a key in two files counts twice."""
        return sum(file.rows for file in self.files)

    @cached_property
    def schema(self) -> Any:
        """The columns of all files, key excepted, types widened until all fit.

        Raises:
            OverlayError: two files hold what no type holds.
        """
        import pyarrow as pa

        fields = [
            pa.schema([file.schema.field(name) for name in file.columns]) for file in self.files
        ]
        try:
            return pa.unify_schemas(fields, promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as exc:
            raise OverlayError(
                f"the parts of {self.namespace} disagree about the type of a column: {exc}",
                hint="remove or rewrite the part that has the wrong type",
                code="overlay-types",
            ) from exc


def load(folder: Folder, namespaces: Iterable[str] | None = None) -> dict[str, Overlay]:
    """The overlays of a dataset by namespace, footers read, files oldest first.

    Args:
        folder: the dataset.
        namespaces: only these, as far as they exist.

    Raises:
        OverlayError: a file that is no overlay; files of one namespace with different keys.
    """
    listed = find(folder)
    wanted = listed.keys() if namespaces is None else set(namespaces)
    return load_listed(folder, {name: paths for name, paths in listed.items() if name in wanted})


def load_listed(folder: Folder, listed: Mapping[str, tuple[str, ...]]) -> dict[str, Overlay]:
    """The overlays of a listing that `find` gave; raises as `load` does."""
    found = {}
    for namespace, paths in listed.items():
        files = sorted((inspect(folder, path) for path in paths), key=lambda f: f.rank)
        _check_agreement(namespace, files)
        compact = os.path.dirname(paths[0]) == DERIVED_FOLDER
        found[namespace] = Overlay(namespace, tuple(files), compact)
    return found


def _check_agreement(namespace: str, files: list[OverlayFile]) -> None:
    keys = {file.key: file.path for file in files}
    if len(keys) > 1:
        listed = ", ".join(f"{path} by {key}" for key, path in sorted(keys.items()))
        raise OverlayError(
            f"the parts of {namespace} are keyed differently: {listed}",
            hint="remove or rewrite the parts that have the wrong key",
            code="overlay-keys",
        )


def inspect(folder: Folder, path: str) -> OverlayFile:
    """What the footer of an overlay file says.

    Raises:
        OverlayError: unreadable, or no overlay of the namespace that its place says.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(tablefile.find(folder, path).open()) as file:
            footer, schema = file.metadata, file.schema_arrow
        if isinstance(folder, str | os.PathLike):
            size = os.stat(os.path.join(folder, path)).st_size
        else:
            size = folder.size(path)
    except UsrError:
        raise
    except (OSError, pa.ArrowException) as exc:
        raise OverlayError(
            f"{path} cannot be read as Parquet: {exc}",
            hint="restore it from a state (`usr checkout`) or from the remote, or remove it",
            code="overlay-unreadable",
        ) from exc
    return _describe(path, footer, schema, size)


def _describe(path: str, footer: Any, schema: Any, size: int) -> OverlayFile:
    meta = {
        key.decode(errors="replace"): value.decode(errors="replace")
        for key, value in (schema.metadata or {}).items()
    }
    place = path.split("/")[1].removesuffix(".parquet")
    namespace, key = meta.get(META_NAMESPACE, place), meta.get(META_KEY, "")
    if namespace != place:
        raise _no_overlay(path, f"it says that it belongs to {namespace!r}")
    if key not in KEYS:
        said = f"its {META_KEY} is {key!r}" if META_KEY in meta else f"it has no {META_KEY}"
        raise _no_overlay(path, f"{said}, which must be one of {', '.join(KEYS)}")
    if not schema.names:
        raise _no_overlay(path, "it has no columns")
    return OverlayFile(
        path,
        namespace,
        key,
        key if key in schema.names else schema.names[0],
        parse_moment(meta.get(META_CREATED_AT, "")),
        meta.get(META_REGISTRY),
        meta.get(META_CONTRACT),
        footer.num_rows,
        size,
        schema,
        _count_nulls(footer),
    )


def _count_nulls(footer: Any) -> dict[str, int | None]:
    """Nulls of each flat column; nested ones cannot be told apart from empty ones here."""
    found: dict[str, int | None] = {}
    for group in range(footer.num_row_groups):
        row_group = footer.row_group(group)
        for index in range(row_group.num_columns):
            column = row_group.column(index)
            name = column.path_in_schema
            stats = column.statistics
            known = found.get(name, 0)
            if known is None or stats is None or not stats.has_null_count:
                found[name] = None
            else:
                found[name] = known + stats.null_count
    return found


def _no_overlay(path: str, why: str) -> OverlayError:
    return OverlayError(
        f"{path} is not an overlay: {why}",
        hint="move it out of _derived, or write it again with `usr attach`",
        code="overlay-metadata",
    )


# ── what a writer needs ─────────────────────────────────────────────────────────────────
def part_name(created_us: int, token: str) -> str:
    """`part-20260131T235959123456Z-<32 hex>.parquet`.

    Args:
        created_us: UTC microseconds since 1970.
        token: 32 hexadecimal digits that no other writer draws.
    """
    return f"part-{_moment(created_us):%Y%m%dT%H%M%S%fZ}-{token}.parquet"


def part_path(namespace: str, created_us: int, token: str) -> str:
    return f"{DERIVED_FOLDER}/{namespace}/{part_name(created_us, token)}"


def next_moment(paths: Iterable[str], now_us: int) -> int:
    """When a new part was made: now, but after all parts that are there, whatever their clocks.

    Args:
        paths: the parts that are there.
        now_us: UTC microseconds since 1970.
    """
    stamps = (_STAMP.search(path) for path in paths)
    known = [_stamp_us(found) for found in stamps if found]
    return max([now_us, *(moment + 1 for moment in known)])


def _stamp_us(found: re.Match[str]) -> int:
    date, time, micros = found.groups()
    return parse_moment(f"{date}T{time}.{micros}Z")


def compact_path(namespace: str) -> str:
    return f"{DERIVED_FOLDER}/{namespace}.parquet"


def metadata(
    namespace: str,
    key: str,
    created_us: int,
    *,
    registry_hash: str | None,
    contract_hash: str | None,
) -> dict[str, str]:
    """The key/value metadata of an overlay file, in one order."""
    found = {
        META_NAMESPACE: namespace,
        META_KEY: key,
        META_CREATED_AT: format_moment(created_us),
        META_REGISTRY: registry_hash,
        META_CONTRACT: contract_hash,
    }
    return {name: value for name, value in found.items() if value is not None}


def format_moment(time_us: int) -> str:
    return f"{_moment(time_us):%Y-%m-%dT%H:%M:%S.%fZ}"


def parse_moment(text: str) -> int:
    """UTC microseconds since 1970 of an ISO 8601 moment; 0, the oldest, if it is none."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return 0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)


def _moment(time_us: int) -> dt.datetime:
    return _EPOCH + dt.timedelta(microseconds=time_us)
