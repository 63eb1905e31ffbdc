"""gc, repack and du: what a store keeps, for how long, and what that costs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from usrcli.context import find_root, json_option, make_who, parse_seconds, print_json
from usrcli.links import find_profile
from usrcli.render.progress import reporter
from usrcli.render.text import human_bytes, human_duration, moment, plural
from usrstore.errors import InvalidInputError
from usrstore.objects.names import DatasetId

if TYPE_CHECKING:
    from usrstore.objects.progress import Emit
    from usrstore.odb.gc import Collected
    from usrstore.root import Root
    from usrstore.verbs.du import StateUse, Usage
    from usrstore.verbs.gc import GcResult
    from usrstore.verbs.retention import Retention

_COUNT = click.IntRange(0)


@click.command(short_help="Delete what nothing reaches and no rule keeps")
@click.argument("remote", required=False)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be deleted.")
@click.option("--grace", metavar="D", help="Leave alone what is younger [1d].")
@click.option("--keep-last", type=_COUNT, metavar="N", help="Keep so many newest states.")
@click.option("--keep-daily", type=_COUNT, metavar="N", help="Keep one of each of N days.")
@click.option("--keep-weekly", type=_COUNT, metavar="N", help="Keep one of each of N weeks.")
@click.option("--keep-monthly", type=_COUNT, metavar="N", help="Keep one of each of N months.")
@click.option("--keep-within", metavar="D", help="Keep the states of the last D.")
@click.option("--keep-tagged/--no-keep-tagged", default=None, help="Keep what has a tag [on].")
@click.option(
    "--keep-ops", metavar="D", help="Keep what operations of the last D need to be undone [7d]."
)
@click.option(
    "--lock-timeout", type=float, metavar="S", help="How long to wait for another gc [30]."
)
@json_option
def gc(
    remote: str | None, dry_run: bool, lock_timeout: float | None, as_json: bool, **given: Any
) -> int:
    """Delete objects that no state reaches, in two steps with a time of grace between them.

    Without a rule no state loses anything: every state that a ref's history, a tag or the
    operation log reaches keeps its files. With any --keep-… rule, the other kept states become
    light: `usr log` still shows them and what files they had, but their bytes go. A dataset's
    present state is always kept, and so is what operations of the last week replaced (--keep-ops).

    Durations are 12h, 14d, 2w, 1y. The section [gc] of .usr/config may say the same.

    REMOTE is a bucket, where nobody else would do it; only the rules of this command line hold
    there. A root on another machine is collected on that machine.
    """
    from usrstore.verbs import gc as verb
    from usrstore.verbs.retention import from_settings, parse_duration

    root = find_root()
    for name in ("grace", "keep_within", "keep_ops"):
        if given[name] is not None:
            given[name] = parse_duration(given[name])
    settings = {} if remote else root.config.get("gc", {})
    retention = from_settings(settings, given)
    progress = reporter("auto")
    try:
        if remote is not None:
            result = _collect_bucket(root, remote, retention, dry_run=dry_run, emit=progress)
        else:
            result = verb.collect(
                root,
                make_who(root),
                retention,
                dry_run=dry_run,
                lock_timeout_s=parse_seconds(lock_timeout),
                emit=progress,
            )
    finally:
        progress.done()
    if as_json:
        print_json({"dry_run": dry_run, **_gc_data(result)})
    else:
        _print_gc(result, dry_run=dry_run, grace=retention.grace)
    return 0


def _collect_bucket(
    root: Root, remote: str, retention: Retention, *, dry_run: bool, emit: Emit
) -> GcResult:
    """Raises: InvalidInputError: a remote that has a machine of its own."""
    from usrcli import credentials
    from usrstore.odb.pack import scratch_of
    from usrstore.verbs import bucketgc
    from usrstore.verbs.bucket import ends_of, open_backend

    profile = find_profile(root, remote)
    if profile.type != "bucket":
        at = f"ssh {profile.target} " if profile.type == "ssh" else ""
        raise InvalidInputError(
            f"{remote} is no bucket: a root is collected where it lies; nothing was changed",
            hint=f"{at}{profile.usr_command if at else 'usr'} --root {profile.base_dir} gc",
        )
    root.create_store()
    backend = open_backend(profile, credentials.gather(os.environ))
    return bucketgc.collect(
        backend,
        profile.place,
        make_who(root),
        retention,
        scratch=scratch_of(root.store),
        ends=ends_of(profile, root),
        dry_run=dry_run,
        emit=emit,
    )


def _gc_data(result: GcResult) -> dict[str, Any]:
    return {
        **_pack_data(result.collected),
        "lighter": [
            {
                "id": oid.hex(),
                "dataset": manifest.dataset,
                "sequence": manifest.sequence,
                "time_us": manifest.time_us,
                "message": manifest.message,
            }
            for oid, manifest in result.lighter
        ],
        "operations": result.operations,
        "leftovers": result.leftovers,
        "leftover_bytes": result.leftover_bytes,
    }


def _pack_data(done: Collected) -> dict[str, Any]:
    return {
        "packs": done.packs,
        "bytes": done.size,
        "live": done.live,
        "dead": done.dead,
        "repacked": done.repacked,
        "condemned": [pack.hex() for pack in done.condemned],
        "condemned_bytes": done.condemned_bytes,
        "swept": [pack.hex() for pack in done.swept],
        "swept_bytes": done.swept_bytes,
    }


def _print_gc(result: GcResult, *, dry_run: bool, grace: float) -> None:
    would = "would be " if dry_run else ""
    for oid, manifest in result.lighter:
        first = manifest.message.splitlines()[0] if manifest.message else ""
        click.echo(
            f"light: {manifest.dataset} {oid.short} {moment(manifest.time_us)}"
            + (f" {first}" if first else "")
        )
    if result.lighter:
        click.echo(f"{plural(len(result.lighter), 'state')} {would}light from now on")
    if result.operations:
        click.echo(f"{plural(result.operations, 'operation')} {would}forgotten")
    _print_packs(result.collected, would=would, grace=grace)
    if result.leftovers:
        size = human_bytes(result.leftover_bytes)
        click.echo(
            f"{plural(result.leftovers, 'leftover')} of dead commands {would}deleted, {size}"
        )


def _print_packs(done: Collected, *, would: str, grace: float) -> None:
    click.echo(
        f"{plural(done.packs, 'pack')}, {human_bytes(done.size)}: "
        f"{plural(done.live, 'object')} reached, {done.dead} not"
    )
    if done.repacked:
        click.echo(f"{plural(done.repacked, 'pack')} {would}merged")
    if done.condemned:
        when = f"; deleted by the first `usr gc` after {human_duration(grace)}" if grace else ""
        size = human_bytes(done.condemned_bytes)
        click.echo(f"{plural(len(done.condemned), 'pack')} {would}condemned, {size}{when}")
    if done.swept:
        size = human_bytes(done.swept_bytes)
        click.echo(f"{plural(len(done.swept), 'pack')} {would}deleted, {size}")
    if not (done.repacked or done.condemned or done.swept):
        click.echo("nothing to collect")


@click.command(short_help="Merge small packs")
@click.option("--lock-timeout", type=float, metavar="S", help="How long to wait for a gc [30].")
@json_option
def repack(lock_timeout: float | None, as_json: bool) -> int:
    """Merge small and half-dead packs into large ones.

    The new packs are complete before an old one is condemned; the old ones are deleted by a
    later `usr gc`. Commands that run meanwhile notice nothing.
    """
    from usrstore.verbs import gc as verb
    from usrstore.verbs.retention import from_settings

    root = find_root()
    progress = reporter("auto")
    try:
        done = verb.repack(
            root, make_who(root), lock_timeout_s=parse_seconds(lock_timeout), emit=progress
        )
    finally:
        progress.done()
    if as_json:
        print_json(_pack_data(done))
    else:
        grace = from_settings(root.config.get("gc", {}), {}).grace
        _print_packs(done, would="", grace=grace)
    return 0


@click.command(short_help="Where the bytes are, and what each state costs")
@click.argument("dataset", required=False)
@json_option
def du(dataset: str | None, as_json: bool) -> int:
    """Say where the bytes of a store are, what each state costs alone, and what is saved how.

    A state costs alone what giving it up would free: bytes in packs that no other state reaches.
    """
    from usrstore.verbs import du as verb

    root = find_root()
    name = None if dataset is None else DatasetId(root.find_dataset(dataset))
    usage = verb.du(root, name)
    if as_json:
        print_json(_du_data(usage))
        return 0
    for folder, size in usage.folders.items():
        click.echo(f"{human_bytes(size):>10}  {folder}{os.sep}")
    for place, size in sorted(usage.places.items(), key=lambda item: -item[1]):
        if size:
            packs = f" ({plural(usage.packs, 'pack')} in all)" if place == "data" else ""
            click.echo(f"{human_bytes(size):>10}  .usr: {place}{packs}")
    if usage.states:
        click.echo()
        click.echo(f"{'alone':>10}  {'files':>10}")
    for use in usage.states:
        click.echo(_state_line(use))
    if usage.logical:
        click.echo()
        click.echo(f"{human_bytes(usage.logical):>10}  files of all states, each by itself")
        for size, how in _savings(usage):
            click.echo(f"{human_bytes(size):>10}  {how}")
        click.echo(f"{human_bytes(usage.stored):>10}  in packs")
    return 0


def _savings(usage: Usage) -> list[tuple[int, str]]:
    return [
        (usage.logical - usage.distinct, "saved by storing what is equal once"),
        (usage.light, "in no pack: light states, whose bytes are in working folders or gone"),
        (usage.stored_raw - usage.stored, "saved by compression"),
    ]


def _state_line(use: StateUse) -> str:
    manifest = use.manifest
    word = "kept " if use.kept else "light" if use.known else "name "
    first = manifest.message.splitlines()[0] if manifest.message else ""
    sizes = f"{human_bytes(use.alone):>10}  {human_bytes(use.size):>10}"
    return f"{sizes}  {word} {manifest.dataset} {use.oid.short} {moment(manifest.time_us)} {first}"


def _du_data(usage: Usage) -> dict[str, Any]:
    return {
        "places": usage.places,
        "packs": usage.packs,
        "folders": usage.folders,
        "states": [
            {
                "id": use.oid.hex(),
                "dataset": use.manifest.dataset,
                "sequence": use.manifest.sequence,
                "time_us": use.manifest.time_us,
                "message": use.manifest.message,
                "bytes": use.size,
                "alone": use.alone,
                "kept": use.kept,
                "known": use.known,
            }
            for use in usage.states
        ],
        "logical": usage.logical,
        "distinct": usage.distinct,
        "stored": usage.stored,
        "saved": {
            "dedup": usage.logical - usage.distinct,
            "light": usage.light,
            "compression": usage.stored_raw - usage.stored,
        },
    }
