"""The audit as people read it; labels padded to 11, one fact a line."""

from __future__ import annotations

from typing import Any

from usrcli.render.merged import lines_of
from usrcli.render.text import human_bytes, human_seconds, plural
from usrstore.objects.ids import ObjectId
from usrstore.objects.sections import Section
from usrstore.objects.tree import Listing
from usrstore.verbs import audit
from usrstore.verbs.audit import SyncResult
from usrstore.verbs.relation import Relation
from usrstore.verbs.scope import LeftOut

_SHOWN = 10


def line(label: str, text: str) -> str:
    return f"{label:<11}: {text}"


def audit_lines(result: SyncResult) -> list[str]:
    """The operator's decision summary, in the order that scripts expect."""
    data = audit.data(result)
    verify = data["verify"]
    events, snapshots = data[".events.log"], data["_snapshots"]
    lines = [
        f"{result.action.upper()} audit: {result.state}",
        line("Dataset", data["dataset"]),
        line(
            "Verify",
            f"primary={verify['primary']} sidecars={verify['sidecars']} "
            f"content_hashes={verify['content_hashes']}",
        ),
        line("Primary", _changed(data["primary"]["changed"])),
        line("meta.md", _changed(data["meta"]["changed"])),
        line(
            ".events.log",
            f"{_changed(events['changed'])} local={events['local']} remote={events['remote']}",
        ),
        line(
            "_snapshots",
            f"{_changed(snapshots['changed'])} remote_count={snapshots['remote_count']} "
            f"newer_than_local={snapshots['newer_than_local']}",
        ),
    ]
    lines += [_inventory(data, name) for name in ("_derived", "_auxiliary")]
    if (left := result.left_out) is not None:
        lines.append(line("Left out", _left_out(left)))
    lines.append(line("Manifest", _manifest(result, data["manifest"])))
    if result.state in ("TRANSFERRED", "MERGED"):
        moved = result.moved
        wire = (
            f"{human_bytes(moved.sent)} sent, {human_bytes(moved.received)} received, "
            if moved.round_trips
            else ""
        )
        lines.append(
            line(
                "Moved",
                f"{wire}{human_bytes(moved.payload)} of "
                f"{human_bytes(sum(e.size for e in _target(result).values()))} "
                f"in {human_seconds(moved.seconds)}",
            )
        )
        lines.append(line("Resumed", human_bytes(moved.resumed)))
    if result.merge is not None:
        lines += [line("Merged", text) for text in lines_of(result.merge)]
    return lines


def scope_words(left: LeftOut) -> str:
    """What a partial transfer does not speak for."""
    said = [" ".join(left.sections)] if left.sections else []
    return "; ".join([*said, f"all but {' '.join(left.globs)}"] if left.globs else said)


def _left_out(left: LeftOut) -> str:
    differ = f"{len(left.differ)} of which differ{'s' if len(left.differ) == 1 else ''}"
    files = f"{plural(left.files, 'file')}, {differ}" if left.files else "no files"
    return f"{scope_words(left)}: neither moved nor verified ({files})"


def _target(result: SyncResult) -> Listing:
    return result.meeting.local if result.action == "push" else result.meeting.there


def _changed(changed: bool) -> str:
    return "changed" if changed else "unchanged"


def _inventory(data: dict[str, Any], name: str) -> str:
    rows = data[name]
    return line(
        name,
        f"{_changed(rows['changed'])} local_files={rows['local_files']} "
        f"remote_files={rows['remote_files']} local_only={len(rows['local_only'])} "
        f"remote_only={len(rows['remote_only'])} differ={len(rows['differ'])}",
    )


def _manifest(result: SyncResult, data: dict[str, Any]) -> str:
    met = result.meeting

    def short(oid: ObjectId | None) -> str:
        return oid.short if oid else "none"

    text = f"local={short(met.head)} remote={short(met.answer.head)}"
    if result.manifest and result.state == "TRANSFERRED":
        text += f" now={short(result.manifest)}"
    if data["signature"] is not None:
        text += f" signer={data['signer'] or 'nobody'} signature={data['signature']}"
    return text


def change_lines(result: SyncResult) -> list[str]:
    """Which files differ, the first ten of each kind, so that nobody has to guess."""
    lines, lone = [], result.meeting.site.root.lone
    words = {"local_only": "only here", "remote_only": "only there", "differ": "differs"}
    for section in Section:
        delta = result.meeting.comparison.sections[section]
        for kind, word in words.items():
            paths = getattr(delta, kind)
            lines += [f"  {word:<10} {lone or path}" for path in paths[:_SHOWN]]
            if len(paths) > _SHOWN:
                lines.append(f"  {word:<10} … and {len(paths) - _SHOWN} more in {section.label}")
    return lines


def both_changed(result: SyncResult) -> str | None:
    """What a dry run says of a dataset that both sides changed."""
    if result.state != "DRY-RUN" or result.meeting.relation is not Relation.DIVERGED:
        return None
    dataset, remote = result.meeting.site.dataset, result.meeting.remote
    return (
        f"Both sides changed: a pull would merge them. To see how: usr fetch {dataset} {remote}, "
        f"then usr merge -n {remote}/{dataset}"
    )


def policy_warnings(policy: tuple[str, ...]) -> list[str]:
    if not policy:
        return []
    force = f"{', '.join(policy)} {'is' if len(policy) == 1 else 'are'} in force"
    return [f"warning: {force}; the manifest, the operation log and this audit record it"]


def status_line(result: SyncResult) -> str:
    return line("Status", "CHANGES" if result.changed else "up-to-date")
