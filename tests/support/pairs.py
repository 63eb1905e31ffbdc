"""A local root and a remote one, in-process, opened anew for every command."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from support import datasets
from support.datasets import DATASET
from support.people import BOB, make_who
from usrstore.objects.ids import Kind, ManifestId
from usrstore.objects.names import head_ref
from usrstore.odb import reach
from usrstore.root import Root, Who
from usrstore.verbs import commit, diff, pull, push
from usrstore.verbs.host import Host
from usrstore.verbs.options import Options
from usrstore.verbs.recover import recover
from usrstore.verbs.site import Site

LOCK_TIMEOUT_S = 0.3


@dataclass(frozen=True)
class Place:
    """One root, and who acts there."""

    path: Path
    who: Who = field(default_factory=make_who)

    @property
    def folder(self) -> Path:
        return self.path / DATASET

    @property
    def root(self) -> Root:
        """The root, opened anew."""
        return Root(str(self.path))

    def site(self, *, lock_timeout_s=LOCK_TIMEOUT_S, dataset=DATASET) -> Site:
        return Site.open(self.root, dataset, self.who, lock_timeout_s=lock_timeout_s)

    def host(self, **options) -> Host:
        return Host(self.root, self.who, **options)

    def write(self, files) -> None:
        datasets.write(self.folder, files)

    def read(self):
        return datasets.read(self.folder)

    def outside(self):
        return datasets.outside(self.path)

    def refs(self):
        return dict(self.root.states.refs()) if self.root.has_store else {}

    def head(self) -> ManifestId | None:
        return self.refs().get(head_ref(DATASET))

    def manifest(self, oid=None):
        return reach.manifest(self.root.database.get, oid or self.head())

    def kept(self, oid=None) -> datasets.Files:
        """The files of a state as packs alone give them."""
        get = self.root.database.get
        listing = reach.listing(get, self.manifest(oid).tree)
        return {
            path: b"".join(get(Kind.CHUNK, chunk) for chunk, _ in reach.chunks(get, entry))
            if entry.size
            else b""
            for path, entry in listing.items()
        }

    def commit(self, message="kept"):
        return commit.commit(self.site(), message=message)

    def recover(self):
        return recover(self.root, self.who, lock_timeout_s=LOCK_TIMEOUT_S)

    def everything(self):
        """What must not change when a transfer into here fails: files, registry, refs."""
        return self.read(), self.outside(), self.refs()


@dataclass(frozen=True)
class Pair:
    """`here` pushes to and pulls from `there`, which it calls r."""

    here: Place
    there: Place

    @classmethod
    def make(cls, home, *, files=None, registry_there=False) -> Pair:
        """Two new roots; `here` holds the dataset."""
        pair = cls(
            Place(Path(home) / "here", make_who("alice")),
            Place(Path(home) / "there", make_who("bob", BOB)),
        )
        pair.here.path.mkdir(parents=True)
        pair.there.path.mkdir(parents=True)
        (pair.here.path / "registry.yaml").write_bytes(datasets.REGISTRY)
        if registry_there:
            (pair.there.path / "registry.yaml").write_bytes(datasets.REGISTRY)
        if files is not None:
            pair.here.write(files)
        return pair

    def copy_to(self, home, *, linked=False) -> Pair:
        """The same two roots elsewhere, times included; linked files are even the same inodes."""
        home = Path(home)
        copy = os.link if linked else shutil.copy2
        for place in (self.here, self.there):
            shutil.copytree(place.path, home / place.path.name, copy_function=copy)
        return Pair(
            replace(self.here, path=home / self.here.path.name),
            replace(self.there, path=home / self.there.path.name),
        )

    def _run(self, verb, peer, **options):
        peer = peer or self.there.host()
        try:
            return verb(self.here.site(), peer, "r", Options(**options))
        finally:
            peer.close()

    def push(self, peer=None, **options):
        return self._run(push.push, peer, **options)

    def pull(self, peer=None, **options):
        return self._run(pull.pull, peer, **options)

    def diff(self, peer=None):
        peer = peer or self.there.host()
        try:
            return diff.diff(self.here.site(), peer, "r", checks=Options().checks)
        finally:
            peer.close()


def set_back(path, stamp_ns) -> None:
    """Give a file an mtime, as tools that keep times do."""
    os.utime(path, ns=(stamp_ns, stamp_ns))
