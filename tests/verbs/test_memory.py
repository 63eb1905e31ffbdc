"""What a root remembers of others, while several of its commands remember at once."""

from __future__ import annotations

import os

from usrstore.objects.ids import Kind, ManifestId, hash_object
from usrstore.root import Root
from usrstore.verbs import memory

WRITERS, EACH = 6, 8


def remember(home, writer):
    for n in range(EACH):
        name, root = f"ns/{writer}-{n}", Root(str(home))
        memory.remember(root, "r", name, None, oid(name), since=memory.Mark(), at_us=1)
        memory.offer(root, name, oid(name), None, ())


def oid(name):
    return ManifestId(hash_object(Kind.MANIFEST, name.encode()))


def test_nothing_is_forgotten_of_what_others_remember_at_the_same_time(home):
    root = Root(str(home))
    root.create_store()
    children = []
    for writer in range(WRITERS):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                remember(home, writer)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * WRITERS
    names = [f"ns/{writer}-{n}" for writer in range(WRITERS) for n in range(EACH)]
    assert [memory.mark(root, "r", name).head for name in names] == [oid(n) for n in names]
    assert set(memory.offered(root)) == {oid(name) for name in names}


def test_offers_that_history_holds_are_dropped_and_the_rest_is_bounded(home):
    root = Root(str(home))
    root.create_store()
    many = [oid(str(n)) for n in range(memory.MAX_OFFERS + 4)]
    for one in many:
        memory.offer(root, "ns/x", one, None, ())
    kept = many[-memory.MAX_OFFERS :]
    assert [row.manifest for row in memory.offers(root, "ns/x")] == kept
    memory.offer(root, "ns/x", oid("new"), kept[3], kept[:4])
    assert memory.offers(root, "ns/x") == [
        *(memory.Offer(one, None) for one in kept[4:]),
        memory.Offer(oid("new"), kept[3]),
    ]
    assert memory.offers(root, "ns/other") == []
