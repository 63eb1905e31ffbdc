"""Is a bundle whole? Every object hashed, every state complete; no store is needed for it."""

from __future__ import annotations

from dataclasses import replace

from usrstore.errors import DecodeError, IntegrityError, ObjectNotFoundError
from usrstore.objects.ids import ContentHasher, Kind, ManifestId, ObjectId, TreeId
from usrstore.objects.manifest import Signed, Tag
from usrstore.objects.names import DatasetId
from usrstore.objects.progress import Emit, Event, silent
from usrstore.objects.tree import FileEntry
from usrstore.odb import reach
from usrstore.trust.policy import Policy, Verdict, judge
from usrstore.verbs.bundle import Bundle, Content


def verify(bundle: Bundle, policy: Policy, *, emit: Emit = silent) -> list[Content]:
    """Check all that a bundle carries; what it leaves out is somebody else's to have.

    Args:
        bundle: the file.
        policy: whom to believe; only the verdicts depend on it.
        emit: progress.
    """
    damage = [f"{key}: {why}" for key, why in _damaged(bundle).items()]
    found = [
        _Check(bundle, dataset, oid, policy, emit).content()
        for dataset, oid in bundle.heads.items()
    ]
    return [replace(content, problems=(*damage, *content.problems)) for content in found]


def _damaged(bundle: Bundle) -> dict[str, str]:
    bundle.database.refresh()
    return bundle.database.damaged


class _Check:
    """One state of a bundle."""

    def __init__(
        self, bundle: Bundle, dataset: DatasetId, oid: ManifestId, policy: Policy, emit: Emit
    ) -> None:
        self._bundle = bundle
        self._get = bundle.database.get
        self._dataset = dataset
        self._oid = oid
        self._policy = policy
        self._emit = emit
        self._needs = bundle.needs.get(dataset, ())
        self._problems: list[str] = []
        self._tags: list[str] = []
        self._carried = 0
        self._counted: set[ObjectId] = set()

    def content(self) -> Content:
        verdict, files, size = Verdict("absent", None, None), 0, 0
        try:
            data = self._get(Kind.MANIFEST, self._oid)
            manifest = reach.manifest(self._get, self._oid)
            verdict = judge(Signed.decode(data), self._policy, at_s=manifest.time_us // 1_000_000)
            if verdict.status == "bad":
                self._problems.append("its signature does not hold")
            if manifest.dataset != self._dataset:
                self._problems.append(f"it is a state of {manifest.dataset}")
            if manifest.registry is not None:
                self._get(Kind.CHUNK, manifest.registry.content)
            if self._needs:
                files, size = self._partly()
            else:
                files, size = self._wholly(manifest.tree)
            self._named()
        except (DecodeError, IntegrityError, ObjectNotFoundError) as exc:
            self._problems.append(exc.message)
        return Content(
            self._dataset,
            self._oid,
            self._needs,
            files,
            size,
            self._carried,
            verdict,
            tuple(self._tags),
            tuple(self._problems),
        )

    def _named(self) -> None:
        """Every tag must be one of this state, under its own name, and as it was signed."""
        for ref, oid in sorted(self._bundle.refs.items()):
            if not ref.startswith(f"tags/{self._dataset}/"):
                continue
            name = ref.rpartition("/")[2]
            self._tags.append(name)
            signed = Signed.decode(self._get(Kind.TAG, oid))
            tag = Tag.parse(signed.payload)
            if (tag.dataset, tag.name, tag.manifest) != (self._dataset, name, self._oid):
                self._problems.append(f"tag {name} is really {tag.name} of {tag.manifest.short}")
            elif judge(signed, self._policy).status == "bad":
                self._problems.append(f"tag {name}: its signature does not hold")

    def _wholly(self, root: TreeId) -> tuple[int, int]:
        """Every file put together must hash to its content."""
        listing = reach.listing(self._get, root)
        total = sum(entry.size for entry in listing.values())
        done = 0
        for path, entry in listing.items():
            try:
                self._file(path, entry)
            except (IntegrityError, ObjectNotFoundError) as exc:
                self._problems.append(f"{path}: {exc.message}")
            done += entry.size
            self._emit(Event("verify", done, total, path))
        return len(listing), total

    def _file(self, path: str, entry: FileEntry) -> None:
        hasher = ContentHasher()
        for oid, _ in reach.chunks(self._get, entry) if entry.size else ():
            data = self._get(Kind.CHUNK, oid)  # checked against its name
            hasher.update(data)
            if oid not in self._counted:  # it is in the bundle once
                self._counted.add(oid)
                self._carried += len(data)
        if hasher.digest() != entry.content:
            self._problems.append(f"{path}: its recipe gives other bytes than its content hash")

    def _partly(self) -> tuple[int, int]:
        """Of an incremental bundle: whatever is in it must hash to its name."""
        for pack in self._bundle.database.packs():
            for oid, row in pack.index.items():
                try:
                    size = len(pack.read(oid, row))
                except IntegrityError as exc:
                    self._problems.append(exc.message)
                    continue
                if row.kind == Kind.CHUNK:
                    self._carried += size
        return 0, 0
