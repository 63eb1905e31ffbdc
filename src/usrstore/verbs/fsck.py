"""fsck: look at everything and believe nothing. It changes nothing; it reports findings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from usrstore.errors import UsrError
from usrstore.objects.ids import Kind, ManifestId, ObjectId
from usrstore.objects.manifest import Manifest, Signed, Tag
from usrstore.objects.names import RefName
from usrstore.objects.progress import Emit, Event, silent
from usrstore.odb import reach
from usrstore.odb.scrub import scrub
from usrstore.root import Root, Who
from usrstore.trust.policy import judge
from usrstore.verbs import believing
from usrstore.verbs.site import Site


class Finding(NamedTuple):
    """Something that is not as it should be: where, what, and what to do about it."""

    code: str
    where: str
    message: str
    remedy: str


class FsckResult(NamedTuple):
    findings: list[Finding]
    objects: int
    manifests: int
    states: int


_REFETCH = "fetch or pull from a remote that has it, or restore the file from a copy"


def fsck(root: Root, who: Who, *, deep: bool = False, emit: Emit = silent) -> FsckResult:
    """Check packs, states, every reachable manifest with its trees and recipes, and folders.

    Args:
        root: what to check.
        who: for captures and signatures.
        deep: also hash every stored object, and read every folder anew.
        emit: progress.
    """
    findings: list[Finding] = []
    if not root.has_store:
        return FsckResult(findings, 0, 0, 0)
    objects = sum(pack.index.count for pack in root.database.packs())
    findings += [
        Finding("pack-damaged", key, reason, _REFETCH)
        for key, reason in root.database.damaged.items()
    ]
    if deep:
        findings += _objects(root, emit)
    states = 0
    try:
        for _ in root.states.history():
            states += 1
    except UsrError as exc:
        findings.append(Finding("state-damaged", "states/", exc.message, exc.hint or _REFETCH))
    manifests: dict[ManifestId, Manifest] = {}
    try:
        refs = root.states.refs()
    except UsrError:
        refs = {}
    for name, oid in sorted(refs.items()):
        findings += _ref(root, who, name, oid, manifests)
    findings += [
        Finding(
            "interrupted",
            dataset,
            f"a promotion of {dataset} was interrupted",
            "usr recover",
        )
        for dataset in root.journaled()
    ]
    if deep:
        findings += _folders(root, who, emit)
    return FsckResult(findings, objects, len(manifests), states)


def _objects(root: Root, emit: Emit) -> Iterator[Finding]:
    """I1: stored bytes hash to their names."""
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        emit(Event("verify", done, None))

    for pack in root.database.packs():
        for fault in scrub(pack, progress=progress):
            yield Finding("object-damaged", f"pack {pack.pack.short}", fault.reason, _REFETCH)


def _ref(
    root: Root,
    who: Who,
    name: RefName,
    oid: ObjectId,
    manifests: dict[ManifestId, Manifest],
) -> Iterator[Finding]:
    """I2: what a ref reaches is present; the newest state in whole, its history as manifests."""
    try:
        found = root.database.find(oid)
        if found is not None and found.row.kind == Kind.TAG:
            oid = Tag.parse(Signed.decode(root.database.get(Kind.TAG, oid)).payload).manifest
        for ancestor, manifest in reach.ancestry(root.database.get, ManifestId(oid)):
            if ancestor not in manifests:
                manifests[ancestor] = manifest
                yield from _signature(root, who, name, ancestor, manifest)
        newest = manifests[ManifestId(oid)]
        for _ in reach.metadata(root.database.get, ManifestId(oid)):
            pass
        if newest.registry is not None:
            root.database.get(Kind.CHUNK, newest.registry.content)
    except UsrError as exc:
        yield Finding("unreachable", str(name), exc.message, exc.hint or _REFETCH)


def _signature(
    root: Root, who: Who, name: RefName, oid: ManifestId, manifest: Manifest
) -> Iterator[Finding]:
    signed = Signed.decode(root.database.get(Kind.MANIFEST, oid))
    policy = believing.policy_for(root, who, "", manifest.dataset, "tofu")
    if judge(signed, policy, at_s=manifest.time_us // 1_000_000).status == "bad":
        yield Finding(
            "signature-bad",
            str(name),
            f"the signature of manifest {oid.short} is bad",
            "treat the store as damaged; restore it from a copy or clone it from a remote",
        )


def _folders(root: Root, who: Who, emit: Emit) -> Iterator[Finding]:
    """Every folder read anew: a file whose stamp is unchanged must hold the bytes it held."""
    for dataset in root.datasets():
        site = Site.open(root, dataset, who)
        try:
            trusted = site.capture(record=False)
            read = site.capture(record=False, trusting=False, emit=emit)
        except UsrError as exc:
            yield Finding(exc.code, dataset, exc.message, exc.hint or _REFETCH)
            continue
        for path, entry in read.listing.items():
            before = trusted.listing.get(path)
            if before is None or trusted.stamps[path] != read.stamps[path]:
                continue
            if before.content != entry.content:
                yield Finding(
                    "file-damaged",
                    f"{dataset}:{path}",
                    f"expected hash {before.content.short}, found {entry.content.short}, though "
                    "nobody wrote to it: the disk or a raw write changed its bytes",
                    f"usr checkout {dataset} -- {path}, or pull it from a remote",
                )
