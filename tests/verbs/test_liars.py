"""A peer that lies, whichever way the data goes: the right error, nothing changed, and on we go.

All of it over a real wire: a lie that the wire refuses is as good as one that the verb refuses.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from support import datasets, liars, wires
from support.liars import Moving, Saying
from support.people import ALICE, BOB, MALLORY
from usrstore.errors import (
    BadSignatureError,
    ForkError,
    GraftError,
    IncompleteError,
    IntegrityError,
    ProtocolError,
    RefConflictError,
    RegistryError,
    RollbackError,
    TrustError,
    UnknownSignerError,
    UnsignedError,
    UsrError,
    VerificationError,
)
from usrstore.objects.ids import Kind, hash_object
from usrstore.remote.peer import Ask
from usrstore.verbs import believing

OLD, NEW = datasets.old_files(), datasets.new_files()


def of_table(files):
    """The same dataset with a real table as its primary."""
    return {**files, "records.parquet": datasets.sample_parquet()}


@pytest.fixture
def pulling(make_pair):
    """A pair that agreed on OLD; the remote has gone on to NEW."""
    pair = make_pair(OLD)
    pair.push()
    pair.pull()
    pair.there.write(NEW)
    return pair


@pytest.fixture
def pushing(make_pair):
    """A pair that agreed on OLD; we have gone on to NEW."""
    pair = make_pair(OLD)
    pair.push()
    pair.pull()
    pair.here.write(NEW)
    return pair


def pull_from(pair, liar, **options):
    return pair.pull(wires.connect(liar(pair.there.host())), **options)


def push_as(pair, liar, **options):
    return pair.push(liar(wires.connect(pair.there.host())), **options)


def refused(kind, act, place):
    before = place.everything()
    with pytest.raises(UsrError) as caught:
        act()
    assert isinstance(caught.value, kind), repr(caught.value)
    assert place.everything() == before
    assert place.root.journaled() == []
    return caught.value


DAMAGE = [
    (liars.dropped, VerificationError),
    (liars.truncated, VerificationError),
    (liars.shortened, VerificationError),
    (liars.flipped, VerificationError),
    (liars.swapped, VerificationError),
    (liars.oversized, VerificationError),
    (liars.twice, ProtocolError),
    (liars.unasked, ProtocolError),
]


@pytest.mark.spec("T-1")
@pytest.mark.spec("T-7")
@pytest.mark.parametrize(("alter", "kind"), DAMAGE, ids=lambda value: value.__name__)
def test_damaged_chunks_are_never_pulled_and_the_next_pull_goes_on(pulling, alter, kind):
    error = refused(
        kind, lambda: pull_from(pulling, lambda host: Moving(host, alter)), pulling.here
    )
    if kind is VerificationError:
        assert error.message.startswith("post-pull-primary: Primary: 1 ")
        assert error.code == "post-pull-primary"
        assert "records.parquet" in error.message
        assert "exactly as they were" in error.message
    again = pull_from(pulling, lambda host: host)
    assert again.moved.payload < again.moved.resumed
    assert pulling.here.read() == NEW


@pytest.mark.parametrize(("alter", "kind"), DAMAGE, ids=lambda value: value.__name__)
@pytest.mark.spec("P-12")
def test_damaged_chunks_are_never_pushed_and_the_next_push_goes_on(pushing, alter, kind):
    error = refused(kind, lambda: push_as(pushing, lambda peer: Moving(peer, alter)), pushing.there)
    if kind is VerificationError:
        assert error.message.startswith("post-push-primary: Primary: 1 ")
        assert error.code == "post-push-primary"
        assert "The remote files and refs are exactly as they were" in error.message
    again = push_as(pushing, lambda peer: peer)
    assert again.moved.payload < again.moved.resumed
    assert pushing.there.read() == NEW


@pytest.mark.parametrize("way", ["pull", "push"])
def test_damage_in_a_sidecar_names_the_section_and_the_file(way, make_pair):
    pair = make_pair(OLD)
    pair.push()
    pair.pull()
    files = {**OLD, "_derived/infer/part-1.parquet": datasets.noise("other", 2000)}
    source, target = (pair.there, pair.here) if way == "pull" else (pair.here, pair.there)
    source.write(files)
    move = pull_from if way == "pull" else push_as
    error = refused(
        VerificationError,
        lambda: move(pair, lambda peer: Moving(peer, liars.flipped)),
        target,
    )
    assert error.message.startswith(f"post-{way}-sidecars: _derived: 1 different\n")
    assert "_derived/infer/part-1.parquet" in error.message
    assert error.code == f"post-{way}-sidecars"


def without_one_node(kind):
    def alter(said):
        nodes = dict(said.nodes)
        del nodes[next(oid for oid, (found, _) in nodes.items() if found is kind)]
        return replace(said, nodes=nodes)

    return alter


def with_a_false_node(kind):
    """Another node of the same kind under the name of the first."""

    def alter(said):
        found = [oid for oid, row in said.nodes.items() if row[0] is kind]
        other = said.nodes[found[1]] if len(found) > 1 else (kind, b"\x93\x01\x00\x90")
        return replace(said, nodes={**said.nodes, found[0]: other})

    return alter


def test_a_tree_with_a_hole_is_never_pulled(pulling):
    liar = lambda host: Saying(host, compared=without_one_node(Kind.TREE))
    error = refused(IntegrityError, lambda: pull_from(pulling, liar), pulling.here)
    assert "incomplete" in error.message
    assert pull_from(pulling, lambda host: host).state == "TRANSFERRED"


def test_an_altered_tree_is_never_pulled(pulling):
    liar = lambda host: Saying(host, compared=with_a_false_node(Kind.TREE))
    error = refused(VerificationError, lambda: pull_from(pulling, liar), pulling.here)
    assert error.message.startswith("post-pull-sidecars: inventory: 1 different")


@pytest.mark.parametrize("kind", [Kind.TREE, Kind.RECIPE])
def test_a_push_with_a_hole_in_its_nodes_is_refused(pushing, kind):
    liar = lambda peer: Saying(peer, proposed=without_one_node(kind))
    error = refused(VerificationError, lambda: push_as(pushing, liar), pushing.there)
    assert error.message.startswith("post-push-")
    assert "incomplete" in error.message
    assert push_as(pushing, lambda peer: peer).state == "TRANSFERRED"


@pytest.mark.parametrize("kind", [Kind.TREE, Kind.RECIPE])
def test_a_push_of_altered_nodes_is_refused(pushing, kind):
    liar = lambda peer: Saying(peer, proposed=with_a_false_node(kind))
    error = refused(VerificationError, lambda: push_as(pushing, liar), pushing.there)
    assert error.message.startswith("post-push-sidecars: inventory: 1 different")


class RecipeLess(liars.Proxy):
    def want(self, contents, have):
        return list(self.peer.want(contents, have))[:-1]


def test_a_pull_without_all_recipes_is_refused(pulling):
    error = refused(VerificationError, lambda: pull_from(pulling, RecipeLess), pulling.here)
    assert error.message.startswith("post-pull-primary: Primary: 1 incomplete")


# ── states ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.spec("T-5")
def test_a_state_of_another_dataset_is_never_pulled(pulling):
    liar = lambda host: Saying(host, compared=liars.forged_head(dataset="ns/y"))
    error = refused(GraftError, lambda: pull_from(pulling, liar), pulling.here)
    assert "ns/y" in error.message


def test_a_state_of_another_dataset_is_never_pushed(pushing):
    liar = lambda peer: Saying(peer, proposed=liars.forged_proposal(ALICE, dataset="ns/y"))
    refused(GraftError, lambda: push_as(pushing, liar), pushing.there)


@pytest.mark.spec("P-11")
def test_a_push_that_does_not_descend_from_the_head_is_refused(pushing):
    liar = lambda peer: Saying(peer, proposed=liars.forged_proposal(ALICE, parents=(), sequence=1))
    error = refused(GraftError, lambda: push_as(pushing, liar), pushing.there)
    assert "does not descend" in error.message


def test_a_push_with_a_sequence_of_its_own_is_refused(pushing):
    liar = lambda peer: Saying(peer, proposed=liars.forged_proposal(ALICE, sequence=77))
    refused(GraftError, lambda: push_as(pushing, liar), pushing.there)


def test_a_push_whose_history_has_a_hole_is_refused(make_pair):
    pair = make_pair(OLD)
    pair.here.commit()
    pair.here.write(NEW)
    liar = lambda peer: Saying(
        peer,
        proposed=lambda p: replace(p, manifests={p.manifest: p.manifests[p.manifest]}),
    )
    refused(IncompleteError, lambda: push_as(pair, liar), pair.there)


def test_a_push_with_a_false_lease_on_the_head_is_refused(pushing):
    liar = lambda peer: Saying(peer, proposed=lambda p: replace(p, expected_head=p.manifest))
    refused(RefConflictError, lambda: push_as(pushing, liar), pushing.there)


def test_a_remote_that_went_back_is_refused_until_it_is_accepted(pulling, home):
    shutil.copytree(pulling.there.path, home / "backup")
    pulling.pull()
    shutil.rmtree(pulling.there.path)
    shutil.copytree(home / "backup", pulling.there.path)
    pulling.there.write(OLD)
    before = pulling.here.everything()
    for act in (pulling.pull, pulling.push, pulling.diff):
        with pytest.raises(RollbackError) as caught:
            act()
        assert "--accept-rollback" in caught.value.hint
    assert pulling.here.everything() == before
    pulling.pull(accept_rollback=True)


def test_an_old_state_is_refused_even_if_its_numbers_look_right(pulling):
    """A remote that claims to know the newest state we saw, yet shows an older manifest."""
    pulling.pull()
    pulling.there.write({**NEW, "meta.md": b"third"})
    pulling.pull()
    stale = []

    def alter(answer):
        manifest = liars.payload_of(answer.manifests[answer.head]) if answer.manifests else None
        old = manifest.parents[0] if manifest else pulling.here.manifest().parents[0]
        stale.append(old)
        return replace(answer, head=old, manifests={}, seen=True)

    refused(
        RollbackError,
        lambda: pull_from(pulling, lambda host: Saying(host, compared=alter)),
        pulling.here,
    )
    assert stale


def test_a_remote_with_another_history_is_refused(pulling, home):
    shutil.copytree(pulling.there.path, home / "backup")
    pulling.pull()
    shutil.rmtree(pulling.there.path)
    shutil.copytree(home / "backup", pulling.there.path)
    pulling.there.write({**NEW, "meta.md": b"# another history\n"})
    for _ in range(3):
        pulling.there.commit()
    with pytest.raises(ForkError):
        pulling.pull()
    assert pulling.here.read() == NEW


def test_a_forked_head_is_refused_even_if_its_numbers_look_right(pulling):
    pulling.pull()
    pulling.there.write({**NEW, "meta.md": b"third"})

    def alter(answer):
        return liars.forged_head(parents=(), sequence=1)(replace(answer, seen=True))

    refused(
        ForkError,
        lambda: pull_from(pulling, lambda host: Saying(host, compared=alter)),
        pulling.here,
    )


# ── signatures ────────────────────────────────────────────────────────────────────────────
@pytest.mark.spec("T-2")
def test_a_bad_signature_is_believed_in_no_mode(pulling):
    liar = lambda host: Saying(host, compared=liars.resigned_badly)
    for trust in ("strict", "tofu", "none"):
        refused(BadSignatureError, lambda t=trust: pull_from(pulling, liar, trust=t), pulling.here)


def test_strict_trust_refuses_an_unknown_signer_until_it_is_listed(pulling):
    error = refused(UnknownSignerError, lambda: pulling.pull(trust="strict"), pulling.here)
    assert "usr trust add" in error.hint
    believing.add_signer(pulling.here.root, "bob", BOB.public_key)
    assert pulling.pull(trust="strict").state == "TRANSFERRED"


def test_a_signature_that_is_gone_is_refused_once_there_was_one(make_pair):
    pair = make_pair(OLD)
    pair.push()
    pair.there.write(NEW)
    pair.pull()  # pins whoever signs there
    pair.there.write(OLD)
    liar = lambda host: Saying(host, compared=liars.stripped)
    for trust in ("strict", "tofu"):
        refused(UnsignedError, lambda t=trust: pull_from(pair, liar, trust=t), pair.here)
    assert pull_from(pair, liar, trust="none").state == "TRANSFERRED"


def test_another_signer_than_the_one_seen_first_is_refused(make_pair):
    pair = make_pair(OLD)
    pair.push()
    pair.there.write(NEW)
    pair.pull()
    pair.there.write(OLD)
    liar = lambda host: Saying(host, compared=liars.forged_head(MALLORY))
    error = refused(UnknownSignerError, lambda: pull_from(pair, liar), pair.here)
    assert MALLORY.public_key.fingerprint in error.message


def test_the_receiving_end_of_a_push_has_its_own_trust(make_pair):
    pair = make_pair(OLD)
    host = lambda: pair.there.host(trust="strict")
    refused(UnknownSignerError, lambda: pair.push(wires.connect(host())), pair.there)
    believing.add_signer(pair.there.root, "alice", ALICE.public_key)
    assert pair.push(wires.connect(host())).state == "TRANSFERRED"
    pair.here.write(NEW)
    for signer in (None, MALLORY):
        liar = Saying(wires.connect(host()), proposed=liars.forged_proposal(signer))
        refused(TrustError, lambda peer=liar: pair.push(peer), pair.there)


def test_a_pushed_signer_is_pinned_by_the_receiving_end(pushing):
    liar = lambda peer: Saying(peer, proposed=liars.forged_proposal(MALLORY))
    refused(UnknownSignerError, lambda: push_as(pushing, liar), pushing.there)


# ── what is said of the files ─────────────────────────────────────────────────────────────
OTHER = b"namespaces:\n  other:\n    columns:\n    - {name: other__a, type: %s}\n"


@pytest.mark.parametrize("way", ["pull", "push"])
def test_a_namespace_with_two_meanings_stops_the_transfer(way, pulling, pushing):
    pair = pulling if way == "pull" else pushing
    (pair.here.path / "registry.yaml").write_bytes(OTHER % b"string")
    (pair.there.path / "registry.yaml").write_bytes(OTHER % b"int64")
    act, target = (pair.pull, pair.here) if way == "pull" else (pair.push, pair.there)
    error = refused(RegistryError, act, target)
    assert "other" in error.message
    assert error.message.startswith("registry: ")


def test_namespaces_that_agree_are_merged_where_the_dataset_arrives(pulling):
    (pulling.there.path / "registry.yaml").write_bytes(OTHER % b"string")
    pulling.pull()
    merged = pulling.here.root.registry()
    assert b"other__a" in merged
    assert b"usr_state" in merged


def test_a_registry_that_is_not_the_one_in_the_manifest_is_refused(pushing):
    liar = lambda peer: Saying(peer, proposed=lambda p: replace(p, registry=b"namespaces: {}\n"))
    (pushing.here.path / "registry.yaml").write_bytes(OTHER % b"string")
    refused(IncompleteError, lambda: push_as(pushing, liar), pushing.there)


LIES = {
    "rows": ({"rows": 10**6}, "primary", "rows=1000000"),
    "columns": ({"columns": 1}, "primary", "columns=1"),
    "events": ({"events": 99}, "sidecars", "expected 99 lines"),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("moves", ["the table moves", "the table stays"])
def test_a_state_that_misstates_its_files_is_refused(lie, moves, make_pair):
    changes, section, words = LIES[lie]
    pair = make_pair(OLD if moves == "the table moves" else of_table(OLD))
    pair.push()
    pair.pull()
    pair.there.write(of_table(NEW))
    liar = lambda host: Saying(host, compared=liars.forged_head(**changes))
    error = refused(VerificationError, lambda: pull_from(pair, liar), pair.here)
    assert error.message.startswith(f"post-pull-{section}: ")
    assert words in error.message
    again = pull_from(pair, lambda host: host)
    assert again.moved.payload == 0  # all of it had arrived and been verified

    pair.here.write({**of_table(NEW), "meta.md": b"# more\n"})
    liar = lambda peer: Saying(peer, proposed=liars.forged_proposal(ALICE, **changes))
    error = refused(VerificationError, lambda: push_as(pair, liar), pair.there)
    assert error.message.startswith(f"post-push-{section}: ")


@pytest.mark.parametrize("path", ["records.parquet", "meta.md"])
def test_sizes_that_lie_are_refused(path, pulling, pushing):
    def larger(at, file):
        return file._replace(size=file.size + 1) if at == path else file

    def compared(answer):
        get = pulling.there.root.database.get
        root, nodes = liars.rebuilt(answer.root.tree, answer.nodes, get, larger)
        return liars.forged_head(tree=root.tree)(replace(answer, root=root, nodes=nodes))

    liar = lambda host: Saying(host, compared=compared)
    error = refused(VerificationError, lambda: pull_from(pulling, liar), pulling.here)
    assert error.message.startswith("post-pull-")

    def proposed(proposal):
        get = pushing.there.root.database.get
        tree = liars.payload_of(proposal.manifests[proposal.manifest]).tree
        root, nodes = liars.rebuilt(tree, proposal.nodes, get, larger)
        said = replace(proposal, nodes=nodes)
        return liars.forged_proposal(ALICE, tree=root.tree)(said)

    liar = lambda peer: Saying(peer, proposed=proposed)
    error = refused(VerificationError, lambda: push_as(pushing, liar), pushing.there)
    assert error.message.startswith("post-push-")
    assert pulling.pull().state == pushing.push().state == "TRANSFERRED"


def test_a_root_that_lies_about_its_sums_is_no_tree(pulling):
    liar = lambda host: Saying(
        host, compared=lambda a: replace(a, root=a.root._replace(size=1, files=1 << 40))
    )
    result = pull_from(pulling, liar)  # what the answer says beside the tree counts for nothing
    assert pulling.here.read() == NEW
    assert result.state == "TRANSFERRED"


# ── tags ──────────────────────────────────────────────────────────────────────────────────
def tag_of(head, name="v1", dataset=datasets.DATASET, signer=BOB, signature=None):
    from usrstore.objects.manifest import Signed, Tag
    from usrstore.trust import policy

    tag = Tag(dataset=dataset, name=name, manifest=head, tagger="b", time_us=1, message="")
    signed = policy.sign(tag.payload(), signer)
    data = (Signed(signed.payload, signature) if signature else signed).encode()
    return hash_object(Kind.TAG, data), (Kind.TAG, data)


TAG_LIES = {
    "of another dataset": {"dataset": "ns/y"},
    "with a bad signature": {"signature": BOB.sign(b"something else")},
    "of another state": {"head": bytes(32)},
    "that would be a path": {"name": "../../heads/ns"},
}


@pytest.mark.spec("P-21")
@pytest.mark.parametrize("what", TAG_LIES)
@pytest.mark.parametrize("way", ["pull", "push"])
def test_a_false_tag_is_never_taken_and_the_state_is(what, way, pulling, pushing):
    pair = pulling if way == "pull" else pushing
    lie = dict(TAG_LIES[what])
    target = pair.here if way == "pull" else pair.there

    def false(head):
        if "name" in lie:  # what our own encoder would refuse to write
            _, (kind, data) = tag_of(head, name="a" * len(lie["name"]))
            data = data.replace(b"a" * len(lie["name"]), lie["name"].encode())
            return hash_object(Kind.TAG, data), (kind, data)
        return tag_of(**{"head": head, **lie})

    def compared(answer):
        return replace(answer, nodes={**answer.nodes, **dict([false(answer.head)])})

    def proposed(proposal):
        return replace(proposal, nodes={**proposal.nodes, **dict([false(proposal.manifest)])})

    if way == "pull":
        pull_from(pair, lambda host: Saying(host, compared=compared))
    else:
        push_as(pair, lambda peer: Saying(peer, proposed=proposed))
    assert target.read() == NEW
    assert not [ref for ref in target.refs() if ref.startswith("tags/")]


@pytest.mark.spec("P-23")
@pytest.mark.parametrize("what", TAG_LIES)
def test_a_false_tag_that_comes_alone_is_never_taken(what, pushing):
    """The remote has the state already; whoever sends tags is not believed the more for it."""
    pushing.push()
    lie = dict(TAG_LIES[what])
    head = pushing.there.head()
    if "name" in lie:
        _, (kind, data) = tag_of(head, name="a" * len(lie["name"]))
        data = data.replace(b"a" * len(lie["name"]), lie["name"].encode())
        false = hash_object(Kind.TAG, data), (kind, data)
    else:
        false = tag_of(**{"head": head, **lie})
    peer = wires.connect(pushing.there.host())
    try:
        peer.compare(Ask(datasets.DATASET, "push"))
        said = peer.tag(datasets.DATASET, dict([false, tag_of(head, name="good")]))
    finally:
        peer.close()
    assert said.taken == ("good",)
    assert [ref for ref in pushing.there.refs() if ref.startswith("tags/")] == [
        f"tags/{datasets.DATASET}/good"
    ]


@pytest.mark.spec("P-23")
def test_a_folder_that_changed_is_not_named(pushing):
    pushing.push()
    pushing.there.write({**pushing.there.read(), "meta.md": b"later"})
    peer = wires.connect(pushing.there.host())
    try:
        peer.compare(Ask(datasets.DATASET, "push"))
        with pytest.raises(UsrError, match="changed"):
            peer.tag(datasets.DATASET, dict([tag_of(pushing.there.head())]))
    finally:
        peer.close()
    assert not [ref for ref in pushing.there.refs() if ref.startswith("tags/")]
