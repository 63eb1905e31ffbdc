"""A root and a store without folders, in memory: what a bucket is, without its server."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field

from support.datasets import DATASET
from support.pairs import Place
from support.people import ALICE, make_who
from usrstore.dataset import registry
from usrstore.errors import StorageError
from usrstore.objects.ids import Kind, ManifestId
from usrstore.objects.names import head_ref
from usrstore.odb import reach
from usrstore.odb.backend.memory import MemoryBackend
from usrstore.odb.database import Database
from usrstore.odb.pack import scratch_of
from usrstore.odb.states import States
from usrstore.verbs import believing, diff, fetch, pull, push
from usrstore.verbs.bare import Bare
from usrstore.verbs.options import Options


class Counting(MemoryBackend):
    """Notes every call, and fails the one it is told to, before or after it has its effect."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.fail = None  # (number of the call from 1, "before" | "after")

    @contextmanager
    def _call(self, verb, key):
        self.calls.append((verb, key))
        number, when = self.fail or (0, "")
        if (len(self.calls), "before") == (number, when):
            raise StorageError("injected before")
        yield
        if (len(self.calls), "after") == (number, when):
            raise StorageError("injected after")

    def read(self, key, start=0, length=None):
        with self._call("read", key):
            return super().read(key, start, length)

    def create(self, key, data):
        with self._call("create", key):
            return super().create(key, data)

    def stat(self, key):
        with self._call("stat", key):
            return super().stat(key)

    def list(self, prefix):
        with self._call("list", prefix):
            rows = list(super().list(prefix))
        yield from rows

    def delete(self, key):
        with self._call("delete", key):
            super().delete(key)


@dataclass
class Lake:
    """A store without folders, and people who share it as the remote `b`."""

    home: object
    backend: Counting = field(default_factory=Counting)

    def place(self, name, files=None, *, signer=ALICE) -> Place:
        made = Place(self.home / name, make_who(name, signer))
        made.path.mkdir()
        (made.path / "registry.yaml").write_bytes(registry.initial())
        if files is not None:
            made.write(files)
        return made

    def peer(self, place, *, mode="tofu") -> Bare:
        root, who = place.root, place.who
        return Bare(
            self.backend,
            "the lake",
            who,
            policy=lambda dataset: believing.policy_for(root, who, "b", dataset, mode),
            scratch=scratch_of(root.store),
        )

    def push(self, place, peer=None, **options):
        return push.push(place.site(), peer or self.peer(place), "b", Options(**options))

    def pull(self, place, peer=None, **options):
        return pull.pull(place.site(), peer or self.peer(place), "b", Options(**options))

    def diff(self, place):
        return diff.diff(place.site(), self.peer(place), "b", checks=Options().checks)

    def fetch(self, place):
        return fetch.fetch(place.site(), self.peer(place), "b")

    @property
    def states(self):
        return States(self.backend)

    def head(self):
        return self.states.refs().get(head_ref(DATASET))

    def files(self):
        """What the lake's packs alone give for the head."""
        if self.head() is None:
            return None
        get = Database(self.backend, None).get
        tree = reach.manifest(get, ManifestId(self.head())).tree
        return {
            path: b"".join(get(Kind.CHUNK, oid) for oid, _ in reach.chunks(get, entry))
            if entry.size
            else b""
            for path, entry in reach.listing(get, tree).items()
        }
