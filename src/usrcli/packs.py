"""pack-info: what lies in the packs. Plumbing; its output is an API."""

from __future__ import annotations

from collections import Counter

import click

from usrcli.context import find_root
from usrstore.errors import AmbiguousRevisionError, ObjectNotFoundError
from usrstore.objects.ids import Kind
from usrstore.odb.pack import Pack


@click.command("pack-info", short_help="List packs, or the objects of one")
@click.argument("pack", required=False)
@click.option("-o", "--object", "wanted", metavar="ID", help="Only the packs that hold it.")
def pack_info(pack: str | None, wanted: str | None) -> int:
    """List every pack, or with PACK (a name or a prefix of it) the objects in it, as they lie.

    \b
    PACK OBJECTS STORED RAW KIND=COUNT…      a pack: bytes as they rest and as they are
    ID KIND OFFSET STORED RAW                an object
    """  # noqa: D301
    root = find_root()
    packs = sorted(root.database.packs(), key=lambda found: found.pack) if root.has_store else []
    if pack is not None:
        found = [one for one in packs if one.pack.hex().startswith(pack.lower())]
        if len(found) > 1:
            raise AmbiguousRevisionError(
                f"{pack} could be {len(found)} packs", hint="give more digits"
            )
        if not found:
            raise ObjectNotFoundError(
                f"{pack!r} names no pack of {root.store}", hint="`usr pack-info` lists them"
            )
        for oid, row in sorted(found[0].index.items(), key=lambda item: item[1].offset):
            word = Kind(row.kind).word
            click.echo(f"{oid} {word} {row.offset} {row.stored} {row.size}")
        return 0
    shown = 0
    for one in packs:
        if wanted is None or any(oid.hex().startswith(wanted) for oid, _ in one.index.items()):
            click.echo(_summary(one))
            shown += 1
    return 0 if shown or wanted is None else 1


def _summary(pack: Pack) -> str:
    rows = [row for _, row in pack.index.items()]
    kinds = Counter(Kind(row.kind).word for row in rows)
    stored, raw = sum(row.stored for row in rows), sum(row.size for row in rows)
    counts = " ".join(f"{word}={count}" for word, count in sorted(kinds.items()))
    return f"{pack.pack} {len(rows)} {stored} {raw} {counts}"
