"""What is fuzzed beside objects and frames: files that people and other tools write, and buckets.

Settings, the registry, keys, notes and logs are text that anybody may have edited; a bucket holds
whatever whoever may write there has put into it. As everywhere: only declared errors come out.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from support.people import make_who
from usrstore.dataset import besides, incoming, namespaces, registry, types
from usrstore.dataset import events as log
from usrstore.dataset.flaws import Flaws
from usrstore.errors import UsrError
from usrstore.objects import revision
from usrstore.objects.ids import Kind, ObjectId, StateId, hash_object
from usrstore.objects.manifest import Signed
from usrstore.objects.names import check_dataset
from usrstore.objects.state import State
from usrstore.odb import docket
from usrstore.odb.backend import address, archive
from usrstore.odb.backend.memory import MemoryBackend
from usrstore.odb.packindex import TRAILER
from usrstore.remote import places, profiles, symptoms
from usrstore.remote.messages import printable
from usrstore.remote.peer import Ask, Seen
from usrstore.root import Root
from usrstore.trust import keys, policy
from usrstore.verbs import believing, memory, mergestate, retention, revisions
from usrstore.verbs.bare import Bare
from usrstore.verbs.bundle import Bundle
from usrstore.worktree import stagelog

_NOW_US = 1_760_000_000_000_000


def _tries(*acts: Callable[[], object]) -> None:
    """Each by itself: what one refuses, another may read."""
    for act in acts:
        try:
            act()
        except UsrError:
            continue


@contextmanager
def _root(**files: bytes) -> Iterator[Root]:
    """A root whose store holds these files."""
    with tempfile.TemporaryDirectory(prefix="usr-fuzz-") as home:
        os.mkdir(os.path.join(home, ".usr"))
        for name, data in files.items():
            path = os.path.join(home, ".usr", name.replace("__", os.sep).replace("_", "."))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)
        yield Root(home)


def remotes(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(prefix="usr-fuzz-") as file:
        file.write(data)
        file.flush()
        for profile in profiles.load(file.name).values():
            str(profile)
            if profile.type == "bucket":
                str(profile.address)


def config(data: bytes) -> None:
    """`.usr/config`, and all that is made of it."""
    with _root(config=data) as root:
        _tries(
            lambda: believing.mode_of(root, None),
            lambda: believing.policy_for(root, make_who(), "r", "ns/x", "tofu"),
            lambda: retention.from_settings(root.config.get("gc", {}), {}),
        )
        _ = root.config


def seen(data: bytes) -> None:
    """`.usr/seen.json`: read, and then added to as a pull would."""
    with _root(seen_json=data) as root:
        notes = root.notes()
        list(memory.memories(root))
        before = memory.mark(root, "r", "ns/x")
        memory.pinned(root, "r", "ns/x")
        memory.signed(root, "r", "ns/x")
        memory.pin(root, "r", "ns/x", "SHA256:x", at_us=1)
        one = Seen(1, StateId(ObjectId(bytes(32))))
        memory.remember(root, "r", "ns/x", one, None, since=before, at_us=1)
        assert root.notes() != notes


def a_merge_that_waits(data: bytes) -> None:
    with _root(**{"merge__ns@x": data}) as root:
        mergestate.find(root, check_dataset("ns/x"))


def a_registry(data: bytes) -> None:
    known = namespaces.load(data, "registry.yaml")
    namespaces.canonical(data)
    for found in known.values():
        namespaces.contract_hash(found)
    _tries(lambda: registry.merge(registry.initial(), data, ours_name="ours", theirs_name="theirs"))


def types_of_columns(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    _tries(lambda: types.parse(text))
    for name, kind in types.parse_columns(text):
        assert name
        assert types.parse(str(kind)) == kind


def words_of_a_person(data: bytes) -> None:
    """Arguments: revisions, moments, ages, places."""
    text = data.decode("utf-8", "replace")
    _tries(
        lambda: revision.parse(text),
        lambda: revisions.parse_moment(text, _NOW_US),
        lambda: retention.parse_duration(text),
        lambda: address.parse(text),
        lambda: places.parse(text),
    )


def stderr_of_ssh(data: bytes) -> None:
    """What a remote says on the way in, shown to a person: no control characters pass."""
    said = printable(data.decode(errors="replace"))
    assert not [c for c in said if c != "\n" and not c.isprintable()], said
    symptoms.find(said.strip().splitlines())


def notes_of_a_stage(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="usr-fuzz-") as home:
        for name in ("landed", "whole"):
            with open(os.path.join(home, name), "wb") as file:
                file.write(data)
        log = stagelog.StageLog(home)
        try:
            list(stagelog.neighbours((spot, b"") for _, spot in log.landed()))
            list(log.whole())
        finally:
            log.close()


def events(data: bytes) -> None:
    """`.events.log`: looked at, read from its end, and mended."""
    with tempfile.TemporaryDirectory(prefix="usr-fuzz-") as home:
        with open(log.path(home), "wb") as file:
            file.write(data)
        besides.check(home, "ns/x", Flaws())
        list(log.lines(home))
        log.tail(home, 3)
        log.torn(home)
        log.check_whole(home)


def a_table(data: bytes) -> None:
    """What is attached or imported: CSV, JSON lines and a JSON array."""
    with tempfile.TemporaryDirectory(prefix="usr-fuzz-") as home:
        for kind in ("csv", "jsonl", "json"):
            path = os.path.join(home, f"t.{kind}")
            with open(path, "wb") as file:
                file.write(data)
            _tries(lambda path=path: list(incoming.open_table(path).batches(lambda *_: None)))


def a_private_key(data: bytes) -> None:
    signer = keys.load_private_key(data)
    assert signer.public_key.fingerprint


def belief(data: bytes) -> None:
    """A manifest that somebody shows, judged in every mode."""
    for mode in ("none", "tofu", "strict"):
        rule = policy.Policy(mode=mode)
        _tries(lambda rule=rule: policy.believe(data, dataset="ns/x", policy=rule))
    policy.judge(Signed.decode(data), policy.Policy())


def a_bucket(data: bytes) -> None:
    """A bucket in which everything is somebody else's: keys and values out of the bytes."""
    backend = MemoryBackend()
    rest = io.BytesIO(data)
    while head := rest.read(3):
        size = int.from_bytes(head[1:], "big") % 2048
        value = rest.read(size)
        _tries(lambda v=value, k=head[0]: backend.create(_key(k, v), v))
    bare = Bare(backend, "bucket b", make_who())
    _tries(
        bare.probe,
        bare.datasets,
        lambda: bare.compare(Ask("ns/x", "pull")),
        lambda: list(bare.want(list(bare._contents), frozenset())),
    )
    list(bare.send([hash_object(Kind.CHUNK, b"twelve bytes")]))


def _key(kind: int, value: bytes) -> str:
    """Where an object store would show it: under the name that it deserves, or another one."""
    if kind % 4 == 0:
        return f"states/{kind // 4 % 8:020d}"
    if kind % 4 == 1:
        named = value[-TRAILER.size :]
        oid = TRAILER.unpack(named)[2] if len(named) == TRAILER.size else bytes(32)
        return f"packs/{ObjectId(oid)}.pack"
    if kind % 4 == 2:
        return docket._key(kind // 4 % 8)
    return "packs/" + value[:40].decode("latin-1").replace("/", "_")


def bundle_saying(about: bytes) -> bytes:
    """A bundle of one state without datasets, which says this of itself."""
    first = State(1, None, {}, 1, "a", "c", "r").encode()
    members = {"about.json": about, f"states/{1:020d}": first}
    tar = [
        part
        for key, body in members.items()
        for part in (archive.header(key, len(body)), body, archive.padding(len(body)))
    ]
    return b"".join([*tar, archive.END])


def about_a_bundle(data: bytes) -> None:
    """What a bundle says of itself, around a chain of states that is in order."""
    with tempfile.NamedTemporaryFile(prefix="usr-fuzz-", suffix=".usr") as file:
        file.write(bundle_saying(data))
        file.flush()
        with Bundle(file.name) as found:
            found.database.refresh()
            list(found.heads)


TARGETS: dict[str, Callable[[bytes], object]] = {
    "remotes": remotes, "config": config, "seen": seen, "pending": a_merge_that_waits,
    "registry": a_registry, "types": types_of_columns, "words": words_of_a_person,
    "stderr": stderr_of_ssh, "stagelog": notes_of_a_stage, "events": events, "table": a_table,
    "key": a_private_key, "belief": belief, "bucket": a_bucket,
    "about": about_a_bundle,
}  # fmt: skip
