"""Peers that do not keep their promises, and forged states for them to show."""

from __future__ import annotations

from dataclasses import replace

from support.people import BOB
from usrstore.objects import tree
from usrstore.objects.ids import Kind
from usrstore.objects.manifest import Manifest, Signed, manifest_id
from usrstore.odb import reach
from usrstore.trust import policy


class Proxy:
    """Passes every question on; a liar overrides what it lies about."""

    def __init__(self, peer):
        self.peer = peer

    def __getattr__(self, name):
        return getattr(self.peer, name)


class Saying(Proxy):
    """Alters what is said: `compared` the answer, `proposed` the proposal."""

    def __init__(self, peer, *, compared=None, proposed=None):
        super().__init__(peer)
        self._compared = compared or (lambda answer: answer)
        self._proposed = proposed or (lambda proposal: proposal)

    def compare(self, ask):
        return self._compared(self.peer.compare(ask))

    def plan(self, proposal):
        return self.peer.plan(self._proposed(proposal))


class Moving(Proxy):
    """Alters the pieces that move, in either direction."""

    def __init__(self, peer, alter):
        super().__init__(peer)
        self._alter = alter

    def send(self, oids):
        return self._alter(list(self.peer.send(oids)))

    def publish(self, pieces):
        return self.peer.publish(self._alter(list(pieces)))

    def hold(self, pieces):
        return self.peer.hold(self._alter(list(pieces)))


# ── pieces: each alters the last one, after the rest has arrived ────────────────────────────
def dropped(pieces):
    return pieces[:-1]


def truncated(pieces):
    last = pieces[-1]
    return [*pieces[:-1], last._replace(stored=bytes(last.stored)[:-1])]


def shortened(pieces):
    last = pieces[-1]
    return [*pieces[:-1], last._replace(stored=b"short", size=5, encoding=0)]


def flipped(pieces):
    last = pieces[-1]
    data = bytearray(last.stored)
    data[len(data) // 2] ^= 1
    return [*pieces[:-1], last._replace(stored=bytes(data))]


def swapped(pieces):
    *rest, a, b = pieces
    return [*rest, a._replace(oid=b.oid), b._replace(oid=a.oid)]


def twice(pieces):
    return [*pieces, pieces[-1]]


def unasked(pieces):
    from usrstore.objects.ids import hash_object
    from usrstore.remote.peer import Piece

    data = b"nobody asked"
    return [*pieces, Piece(hash_object(Kind.CHUNK, data), 0, len(data), data)]


def oversized(pieces):
    """A compressed bomb: promises a megabyte too much."""
    last = pieces[-1]
    return [*pieces[:-1], last._replace(size=last.size + (1 << 20))]


# ── manifests ─────────────────────────────────────────────────────────────────────────────
def sign(manifest: Manifest, signer=BOB):
    """(id, bytes) of a manifest, signed by whoever likes to; None leaves it unsigned."""
    data = policy.sign(manifest.payload(), signer).encode()
    return manifest_id(data), data


def payload_of(data):
    return Manifest.parse(Signed.decode(data).payload)


def forged_head(signer=BOB, **changes):
    """Alters an answer: the head's manifest with some fields changed, signed anew."""

    def alter(answer):
        manifest = replace(payload_of(answer.manifests[answer.head]), **changes)
        oid, data = sign(manifest, signer)
        return replace(answer, head=oid, manifests={**answer.manifests, oid: data})

    return alter


def stripped(answer):
    data = Signed(Signed.decode(answer.manifests[answer.head]).payload, None).encode()
    oid = manifest_id(data)
    return replace(answer, head=oid, manifests={**answer.manifests, oid: data})


def resigned_badly(answer):
    """The signature of another payload."""
    signed = Signed.decode(answer.manifests[answer.head])
    data = Signed(signed.payload, BOB.sign(b"something else")).encode()
    oid = manifest_id(data)
    return replace(answer, head=oid, manifests={**answer.manifests, oid: data})


def forged_proposal(signer=None, **changes):
    def alter(proposal):
        manifest = replace(payload_of(proposal.manifests[proposal.manifest]), **changes)
        oid, data = sign(manifest, signer)
        return replace(proposal, manifest=oid, manifests={**proposal.manifests, oid: data})

    return alter


def rebuilt(root, nodes, get, change):
    """A tree whose files `change` has altered: (root entry, all its nodes)."""

    def read(kind, oid):
        return nodes[oid][1] if oid in nodes else get(kind, oid)

    listing = reach.listing(read, root)
    made = dict(nodes)
    entry = tree.build(
        {path: change(path, file) for path, file in listing.items()},
        lambda oid, data: made.__setitem__(oid, (Kind.TREE, data)),
    )
    return entry, made
