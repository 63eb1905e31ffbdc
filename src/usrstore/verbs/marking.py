"""delete, restore, state: marks on rows, which the base table knows nothing of.

A deleted row has a tombstone: readers pass over it, and `restore` takes the tombstone away.
Record state is what a person says about a row. Marks that change nothing write nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from usrstore.dataset import marks, namespaces, overlay, parquetfile, reserved
from usrstore.dataset.metafile import counted
from usrstore.errors import InvalidInputError, NotFoundError
from usrstore.verbs.attach import load_namespaces
from usrstore.verbs.mutating import Mutation, mutating
from usrstore.verbs.overlays import scratch_folder
from usrstore.verbs.site import Site

_LISTED = 5


@dataclass(frozen=True, slots=True)
class MarkResult:
    """What was marked.

    Attributes:
        changed: rows whose marks are new.
        unchanged: rows that were so already.
        missing: ids that the dataset lacks, which were passed over.
    """

    changed: int
    unchanged: int
    missing: tuple[str, ...]


def delete(
    site: Site, ids: Iterable[str], *, reason: str = "", allow_missing: bool = False
) -> MarkResult:
    """Hide rows from readers. A row that is deleted already keeps its first tombstone.

    Raises:
        NotFoundError: ids that the dataset lacks.
    """

    def change(old: Mapping[str, Any]) -> dict[str, Any] | None:
        if old["usr__deleted"]:
            return None
        return {
            "usr__deleted": True,
            "usr__deleted_at": _moment(site),
            "usr__deleted_reason": reason or None,
        }

    return _mark(
        site, _TOMBSTONES, ids, change, action="tombstone", allow_missing=allow_missing,
        args={"reason": reason}, note="Deleted",
    )  # fmt: skip


def restore(site: Site, ids: Iterable[str], *, allow_missing: bool = False) -> MarkResult:
    """Show deleted rows again.

    Raises:
        NotFoundError: ids that the dataset lacks.
    """

    def change(old: Mapping[str, Any]) -> dict[str, Any] | None:
        if not old["usr__deleted"]:
            return None
        return {"usr__deleted": False, "usr__deleted_at": None, "usr__deleted_reason": None}

    return _mark(
        site, _TOMBSTONES, ids, change, action="restore", allow_missing=allow_missing,
        args={}, note="Restored",
    )  # fmt: skip


def set_state(
    site: Site, ids: Iterable[str], values: Mapping[str, Any], *, allow_missing: bool = False
) -> MarkResult:
    """Say something about rows.

    Args:
        site: the dataset.
        ids: of the rows.
        values: by the names of `reserved.STATE_COLUMNS`; what is not named stays as it is.
        allow_missing: whether ids that the dataset lacks are passed over.

    Raises:
        InvalidInputError: nothing to set, or a value that is not allowed.
        NotFoundError: ids that the dataset lacks.
    """
    values = {name: value for name, value in values.items() if value is not None}
    if not values:
        raise InvalidInputError(
            "nothing to set; nothing was changed",
            hint="give --masked, --qc-status, --split, --supersedes or --lineage",
        )
    for name, value in values.items():
        allowed = reserved.STATE_WORDS.get(name)
        if allowed and value not in allowed:
            raise InvalidInputError(
                f"{name} is one of {', '.join(allowed)}, not {value!r}; nothing was changed"
            )
        if value in ("", []):
            raise InvalidInputError(f"{name} must not be empty; nothing was changed")

    def change(old: Mapping[str, Any]) -> dict[str, Any] | None:
        same = all(old[name] == value for name, value in values.items())
        return None if same else dict(values)

    short = {name.removeprefix("usr_state__"): value for name, value in values.items()}
    args = {
        "masked": short.get("masked"),
        **{name: short.get(name, "") for name in ("qc_status", "split", "supersedes")},
        "lineage_count": len(short.get("lineage", [])),
    }
    return _mark(
        site, _STATE, ids, change, action="state_set", allow_missing=allow_missing, args=args,
        note="Set the state of",
    )  # fmt: skip


def clear_state(site: Site, ids: Iterable[str], *, allow_missing: bool = False) -> MarkResult:
    """Forget what was said about rows; they are not masked.

    Raises:
        NotFoundError: ids that the dataset lacks.
    """
    nothing = {**dict.fromkeys(reserved.STATE_COLUMNS), "usr_state__masked": False}

    def change(old: Mapping[str, Any]) -> dict[str, Any] | None:
        said = [value for name, value in old.items() if name != "id"]
        return dict(nothing) if any(said) else None

    return _mark(
        site, _STATE, ids, change, action="state_clear", allow_missing=allow_missing, args={},
        note="Cleared the state of",
    )  # fmt: skip


def get_state(
    site: Site, ids: Iterable[str] = (), *, allow_missing: bool = False
) -> list[dict[str, Any]]:
    """What is said about rows, all fields, in the order of the ids.

    Without ids: every row that something is said about.

    Raises:
        NotFoundError: ids that the dataset lacks.
    """
    site.root.check_dataset(site.dataset)
    with scratch_folder(site.root) as scratch:
        table = marks.read(site.folder, overlay.STATE, reserved.STATE_COLUMNS, scratch=scratch)
    wanted = _unique(ids)
    if wanted:
        lacking = _check_present(site, wanted, allow_missing=allow_missing)
        table = marks.of(table, [key for key in wanted if key not in lacking])
    return [
        {**row, "usr_state__masked": bool(row["usr_state__masked"])} for row in marks.rows(table)
    ]


@dataclass(frozen=True)
class _Kind:
    namespace: str
    columns: Mapping[str, str]


_TOMBSTONES = _Kind(overlay.TOMBSTONES, reserved.TOMBSTONE_COLUMNS)
_STATE = _Kind(overlay.STATE, reserved.STATE_COLUMNS)


def _mark(
    site: Site,
    kind: _Kind,
    ids: Iterable[str],
    change: Any,
    *,
    action: str,
    allow_missing: bool,
    args: Mapping[str, Any],
    note: str,
) -> MarkResult:
    """Read, change and write one overlay of marks as one act."""
    wanted = _unique(ids)
    if not wanted:
        raise InvalidInputError("no id was given; nothing was changed", hint="name rows by --id")
    with mutating(site) as act, scratch_folder(site.root) as scratch:
        lacking = _check_present(site, wanted, allow_missing=allow_missing)
        table = marks.read(site.folder, kind.namespace, kind.columns, scratch=scratch)
        here = [key for key in wanted if key not in lacking]
        groups: dict[str, tuple[dict[str, Any], list[str]]] = {}
        for row in marks.rows(marks.of(table, here)):
            new = change(row)
            if new is not None:
                groups.setdefault(repr(sorted(new)), (new, []))[1].append(row["id"])
        changed = sum(len(keys) for _, keys in groups.values())
        if changed:
            for values, keys in groups.values():
                table = marks.put(table, marks.with_values(marks.of(table, keys), values))
            path = _write(act, kind, marks.without_empty(table))
            act.event(
                action,
                args={"rows": changed, **args, "allow_missing": allow_missing},
                metrics={"rows": changed, "rows_skipped": len(wanted) - changed},
                table=path,
            )
            act.note(f"{note} {counted(changed, 'row')}")
        return MarkResult(changed, len(here) - changed, tuple(lacking))


def _write(act: Mutation, kind: _Kind, table: Any) -> str:
    """Stage the marks as a compact overlay; parts that were there are in it."""
    site = act.site
    files = overlay.find(site.folder).get(kind.namespace, ())
    path = overlay.compact_path(kind.namespace)
    known = load_namespaces(site) if kind is _STATE else {}
    mine = known.get(kind.namespace)
    meta = overlay.metadata(
        kind.namespace,
        "id",
        overlay.next_moment(files, site.who.now_us()),
        registry_hash=act.registry_hash,
        contract_hash=namespaces.contract_hash(mine) if mine else None,
    )
    for file in files:
        if file != path:
            act.remove(file)
    parquetfile.write(act.replace(path), table, meta)
    return path


def _check_present(site: Site, ids: Sequence[str], *, allow_missing: bool) -> dict[str, None]:
    """The ids that the dataset lacks.

    Raises:
        NotFoundError: there are some, and they may not be passed over.
    """
    lacking = marks.missing(site.folder, ids)
    if lacking and not allow_missing:
        shown = ", ".join(lacking[:_LISTED]) + (" …" if len(lacking) > _LISTED else "")
        count = "1 id" if len(lacking) == 1 else f"{len(lacking)} ids"
        raise NotFoundError(
            f"{site.dataset} has no row for {count}: {shown}; nothing was changed",
            hint="--allow-missing passes over ids that are not there",
            code="id-not-found",
        )
    return dict.fromkeys(lacking)


def _unique(ids: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(key.strip() for key in ids if key.strip()))


def _moment(site: Site) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=site.who.now_us())
