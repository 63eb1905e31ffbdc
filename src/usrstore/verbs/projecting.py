"""overlay-project: what one dataset knows about sequences, for the rows of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from usrstore.dataset import incoming, projection, query
from usrstore.dataset.offer import Wish
from usrstore.errors import InvalidInputError
from usrstore.objects.names import DatasetId
from usrstore.verbs.attach import write_part
from usrstore.verbs.overlays import check_not_reserved, scratch_folder
from usrstore.verbs.site import Site


@dataclass(frozen=True, slots=True)
class ProjectResult:
    """What was projected, or would be.

    Attributes:
        path: of the part in the destination; None if none was written.
        columns: of the source.
        rows, matched, missing: of the destination; with something in the source; with a key
            that the source lacks.
    """

    path: str | None
    columns: tuple[str, ...]
    rows: int
    matched: int
    missing: int


def project(
    site: Site,
    source: DatasetId,
    namespace: str,
    *,
    source_join: str = "id",
    target_join: str = "id",
    columns: Sequence[str] | None = None,
    overwrite: bool = True,
    allow_missing: bool = False,
    dry_run: bool = False,
) -> ProjectResult:
    """Write columns of a source as one more overlay part of a destination.

    Args:
        site: the destination.
        source: a dataset of the same root.
        namespace: whose columns.
        source_join, target_join: columns whose text says which rows belong together.
        columns: which; by default all of the namespace that the source has.
        overwrite: whether columns that hold values already may get newer ones.
        allow_missing: whether rows of the destination may have nothing in the source.
        dry_run: only look.

    Raises:
        NotFoundError, InvalidInputError: columns or keys that do not fit.
        RegistryError: as `attach`.
    """
    check_not_reserved(namespace)
    with scratch_folder(site.root) as scratch:
        plan = projection.plan(
            query.open_view(site.root.check_dataset(source)),
            query.open_view(site.root.check_dataset(site.dataset)),
            namespace,
            columns,
            source_join=source_join,
            target_join=target_join,
            scratch=scratch,
        )
        if plan.missing and not allow_missing:
            shown = ", ".join(plan.missing[:5]) + (" …" if len(plan.missing) > 5 else "")
            raise InvalidInputError(
                f"{source} lacks the {target_join} of {len(plan.missing)} of the "
                f"{plan.rows} rows of {site.dataset}: {shown}; nothing was changed",
                hint="--allow-missing passes over such rows",
                code="projection-missing",
            )
        path = None
        if plan.matched and not dry_run:
            table = incoming.ArrowTable.of(plan.reader(scratch))
            done = write_part(
                site,
                table,
                Wish(namespace, "id", "id", parse_json=False),
                "attach",
                name=f"{namespace} of {source}",
                allow_overwrite=overwrite,
                note=f"projected from {source} by {source_join} = {target_join}",
            )
            path = done.path
    return ProjectResult(path, plan.columns, plan.rows, plan.matched, len(plan.missing))
