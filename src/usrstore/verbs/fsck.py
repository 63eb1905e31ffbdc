"""fsck: look at everything and believe nothing. It mends nothing; it reports findings.

settings, journals, caches → states → packs → all that the refs reach → signatures;
deep: → every stored byte and every folder, hashed, oldest first
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from usrstore.errors import ConfigError
from usrstore.objects.ids import ObjectId, PackId
from usrstore.objects.manifest import Manifest, Signed
from usrstore.objects.names import DatasetId, RefName
from usrstore.objects.progress import Emit, Event, silent
from usrstore.odb import chain
from usrstore.odb.pack import pack_key
from usrstore.odb.scrub import Fault
from usrstore.root import Root, Who
from usrstore.trust.policy import Policy, judge
from usrstore.verbs import believing, surroundings
from usrstore.verbs.closure import Closure
from usrstore.verbs.findings import BACKUP, MOST_NAMED, REPAIR, Finding, FsckResult, named
from usrstore.verbs.scrubbing import Scrubbing


def fsck(
    root: Root,
    who: Who,
    *,
    deep: bool = False,
    max_duration_s: float | None = None,
    emit: Emit = silent,
) -> FsckResult:
    """Check packs, states, all that they reach, and what lies beside them.

    Args:
        root: what to check.
        who: for signatures and the time.
        deep: also hash every stored object, and every file of the folders that nobody wrote to.
        max_duration_s: limit of the deep part; what it does not reach, the next run begins with.
        emit: progress.
    """
    if not root.has_store:
        return FsckResult([], 0, 0, 0)
    findings = list(surroundings.look(root))
    links = Links(root)
    findings += links.findings
    objects = sum(pack.index.count for pack in root.database.packs())
    findings += [
        Finding("pack-damaged", key, reason, REPAIR)
        for key, reason in sorted(root.database.damaged.items())
    ]
    checked = None
    faults: dict[PackId, list[Fault]] = {}
    if deep or max_duration_s is not None:
        findings += _disorder(root)
        scrubbing = Scrubbing(root, who.now_us(), max_duration_s, emit)
        findings += scrubbing.run()
        checked, faults = scrubbing.checked, scrubbing.faults
    emit(Event("plan", 0, None, "what the refs reach"))
    closure = reached(root, links)
    findings += _lacks(closure, faults)
    findings += _signatures(root, who, closure)
    return FsckResult(findings, objects, len(closure.manifests), links.count, checked)


class Links:
    """The chain of states: how long it is, what is wrong with it, which refs it names."""

    def __init__(self, root: Root) -> None:
        self.count = 0
        self.findings: list[Finding] = []
        self.newest: Mapping[RefName, ObjectId] = {}
        self.older: dict[ObjectId, RefName] = {}
        for number, link in enumerate(chain.links(root.database.backend)):
            self.count += link.state is not None
            if link.reason:
                remedy = REPAIR if number == 0 else BACKUP
                where = f"states/{link.number}"
                self.findings.append(Finding("state-damaged", where, link.reason, remedy))
            if link.state is None:
                continue
            if number == 0:
                self.newest = link.state.refs
            for name, oid in link.state.refs.items():
                self.older.setdefault(oid, name)

    @property
    def datasets(self) -> set[DatasetId]:
        """Every dataset that some state names a ref of."""
        return {
            DatasetId(name.split("/", skip)[skip])
            for name in {*self.older.values(), *self.newest}
            for skip in [_BEFORE_DATASET.get(name.partition("/")[0], 0)]
            if skip
        }


_BEFORE_DATASET = {"heads": 1, "remotes": 2}


def reached(root: Root, links: Links) -> Closure:
    """What the refs of the newest state reach, and then what those of older ones do."""
    closure = Closure(root.database)
    closure.walk(links.newest)
    for oid, name in links.older.items():
        closure.walk({name: oid})
    closure.find_lost_chunks()
    return closure


def _lacks(closure: Closure, faults: Mapping[PackId, list[Fault]]) -> Iterator[Finding]:
    """Damaged and missing objects, those of one place together, with the files they hurt."""
    groups: dict[str, list[str]] = {}
    bad: dict[ObjectId, str] = {}
    for pack, damaged in faults.items():
        for fault in damaged:
            bad[fault.oid] = pack_key(pack)
            groups.setdefault(pack_key(pack), []).append(fault.reason)
    for oid, lack in closure.lacks.items():
        if oid in bad:
            continue
        word = f"{lack.kind.word} {oid.short}"
        if lack.reason != "missing":
            group, text = closure.place_of(oid), lack.reason
        elif lack.pack is not None:
            group, text = f"lost {pack_key(lack.pack)}", word
        else:
            group, text = f"lost {lack.ref}", word
        bad[oid] = group
        groups.setdefault(group, []).append(text)
    affects: dict[str, list[str]] = {group: [] for group in groups}
    if bad:
        for group, text in closure.affected(bad):
            if len(affects[group]) <= MOST_NAMED:
                affects[group].append(text)
    for group, texts in groups.items():
        files = tuple(affects[group][:MOST_NAMED])
        if len(affects[group]) > MOST_NAMED:
            files += ("and more",)
        if not group.startswith("lost "):
            yield Finding("object-damaged", group, named(texts), REPAIR, files)
            continue
        where = group.removeprefix("lost ")
        held = "that held them is gone" if where.startswith("packs/") else "reaches them"
        count = f"{len(texts)} objects are" if len(texts) > 1 else "an object is"
        message = f"{count} not stored, and {where} {held}: {named(texts)}"
        yield Finding("unreachable", where, message, REPAIR, files)


def _disorder(root: Root) -> Iterator[Finding]:
    """[F-38]: an index that hashes right and is not sorted hides objects. [F-37]: the magic."""
    for pack in root.database.packs():
        reason = pack.index.disorder(pack.end)
        told = f"its index is wrong: {reason}" if reason else ""
        if not told and not pack.has_magic():
            told = "it does not begin as a pack does"
        if told:
            yield Finding("pack-damaged", pack_key(pack.pack), told, REPAIR)


def _signatures(root: Root, who: Who, closure: Closure) -> Iterator[Finding]:
    policies: dict[str, Policy] = {}
    for oid, (ref, signed) in closure.signed.items():
        manifest = closure.manifests[oid]
        if manifest.dataset not in policies:
            try:
                policies[manifest.dataset] = believing.policy_for(
                    root, who, "", manifest.dataset, "tofu"
                )
            except ConfigError:
                return  # said already, of the settings
        if _is_bad(signed, manifest, policies[manifest.dataset]):
            yield Finding(
                "signature-bad",
                ref,
                f"the signature of manifest {oid.short} is bad",
                "treat the store as damaged; restore it from a copy or clone it from a remote",
                (f"{manifest.dataset} state {manifest.sequence} ({oid.short})",),
            )


def _is_bad(signed: Signed, manifest: Manifest, policy: Policy) -> bool:
    return judge(signed, policy, at_s=manifest.time_us // 1_000_000).status == "bad"
