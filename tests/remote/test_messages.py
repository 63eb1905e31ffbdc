"""Questions and answers: what is written is what is read, and nonsense is refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usrstore import errors
from usrstore.errors import (
    DecodeError,
    DivergedError,
    ProtocolError,
    RemoteError,
    UsrError,
    VerificationError,
)
from usrstore.objects import codec
from usrstore.objects.codec import Fields
from usrstore.objects.ids import (
    ContentHash,
    Kind,
    ManifestId,
    ObjectId,
    StateId,
    TreeId,
    hash_object,
)
from usrstore.objects.tree import FolderEntry
from usrstore.remote import messages
from usrstore.remote.peer import Ask, Checks, Compared, Proposal, Seen

ids = st.binary(min_size=32, max_size=32).map(ObjectId)
some_ids = st.frozensets(ids, max_size=4)
counts = st.none() | st.integers(0, 1 << 60)
seen = st.none() | st.builds(Seen, st.integers(0, 2**64 - 1), ids.map(StateId))
texts = st.text(max_size=30)

asks = st.builds(
    Ask,
    dataset=texts,
    intent=st.sampled_from(["diff", "pull", "push"]),
    root=st.none() | ids.map(TreeId),
    have=some_ids,
    known=some_ids,
    seen=seen,
    lock_timeout_s=st.integers(0, 86_400_000).map(lambda ms: ms / 1000),
)
answers = st.builds(
    Compared,
    exists=st.booleans(),
    has_store=st.booleans(),
    writable=st.booleans(),
    root=st.none() | st.builds(FolderEntry, st.just(""), ids.map(TreeId), st.integers(0, 9), st.integers(0, 9)),
    rows=counts,
    columns=counts,
    schema=st.none() | ids.map(ContentHash),
    events=counts,
    registry=st.none() | st.binary(max_size=50),
    state=seen,
    seen=st.none() | st.booleans(),
    head=st.none() | ids.map(ManifestId),
    notes=st.lists(texts.filter(str.isprintable), max_size=3).map(tuple),
    now_us=st.integers(0, 1 << 60),
)  # fmt: skip
proposals = st.builds(
    Proposal,
    dataset=texts,
    manifest=ids.map(ManifestId),
    manifests=st.just({}),
    nodes=st.just({}),
    registry=st.none() | st.binary(max_size=50),
    expected_root=st.none() | ids.map(TreeId),
    expected_head=st.none() | ids.map(ManifestId),
    checks=st.builds(
        Checks,
        primary=st.sampled_from(["hash", "auto", "size", "parquet"]),
        sidecars=st.booleans(),
        content_hashes=st.booleans(),
    ),
    keep_replaced=st.booleans(),
    lock_timeout_s=st.integers(0, 86_400_000).map(lambda ms: ms / 1000),
)


def received(message, op):
    """The fields of a message once it has been through the codec."""
    fields = Fields(codec.decode(codec.encode(message)), "message")
    assert fields.text("op", most=32) == op
    return fields


def read(parse, message):
    fields = Fields(message, "message")
    value = parse(fields)
    fields.done()
    return value


PARSERS = {
    "compare": (messages.parse_ask, messages.ask_message, Ask("ns/x", "pull")),
    "compared": (
        lambda fields: messages.parse_compared(fields, {}, {}),
        messages.compared_message,
        Compared(exists=False, has_store=False, writable=False, root=None),
    ),
    "plan": (
        lambda fields: messages.parse_proposal(fields, {}, {}),
        messages.proposal_message,
        Proposal("ns/x", ManifestId(ObjectId(b"m" * 32)), {}, {}, None, None, None),
    ),
}


@settings(max_examples=150, deadline=None)
@given(asks)
def test_a_question_is_read_as_it_was_asked(ask):
    fields = received(messages.ask_message(ask), "compare")
    assert messages.parse_ask(fields) == ask
    fields.done()


@settings(max_examples=150, deadline=None)
@given(answers)
def test_an_answer_is_read_as_it_was_given(answer):
    fields = received(messages.compared_message(answer), "compared")
    assert messages.parse_compared(fields, {}, {}) == answer
    fields.done()


@settings(max_examples=150, deadline=None)
@given(proposals)
def test_a_proposal_is_read_as_it_was_made(proposal):
    fields = received(messages.proposal_message(proposal), "plan")
    assert messages.parse_proposal(fields, {}, {}) == proposal
    fields.done()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=70) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_whatever_stands_in_a_field_only_errors_of_ours_come_out(data):
    op = data.draw(st.sampled_from(sorted(PARSERS)))
    parse, write, example = PARSERS[op]
    message = codec.decode(codec.encode(write(example)))
    del message["op"]
    for name in data.draw(st.sets(st.sampled_from(sorted(message)), min_size=1, max_size=3)):
        message[name] = data.draw(values)
    try:
        read(parse, message)
    except UsrError as exc:
        assert exc.message


@pytest.mark.parametrize("op", PARSERS)
def test_a_missing_field_is_named(op):
    parse, write, example = PARSERS[op]
    whole = write(example)
    del whole["op"]
    for name in whole:
        with pytest.raises(DecodeError, match=name):
            read(parse, {key: value for key, value in whole.items() if key != name})


@pytest.mark.parametrize("op", PARSERS)
@pytest.mark.spec("P-3")
def test_an_unknown_field_is_refused(op):
    parse, write, example = PARSERS[op]
    whole = {**write(example), "more": 1}
    del whole["op"]
    with pytest.raises(DecodeError, match="'more'"):
        read(parse, whole)


@pytest.mark.parametrize("op", PARSERS)
@settings(max_examples=100, deadline=None)
@given(value=values)
def test_a_message_that_is_anything_else_is_refused(op, value):
    try:
        read(PARSERS[op][0], value)
    except UsrError:
        return
    pytest.fail("nothing but the real message has all the fields")


def test_ids_that_are_cut_off_are_refused():
    assert messages.unpack_ids(messages.pack_ids([ObjectId(b"1" * 32), ObjectId(b"2" * 32)])) == [
        b"1" * 32,
        b"2" * 32,
    ]
    with pytest.raises(DecodeError):
        messages.unpack_ids(b"1" * 63)


# ── errors ────────────────────────────────────────────────────────────────────────────────
def sent_back(error, where="remote r"):
    fields = received(messages.error_message(error), "error")
    return messages.parse_error(fields, where)


def test_an_error_of_the_other_end_is_one_of_ours_and_says_where():
    error = sent_back(DivergedError("both changed", hint="look"))
    assert type(error) is DivergedError
    assert (error.message, error.hint, error.code) == ("remote r: both changed", "look", "diverged")


def test_the_words_that_scripts_match_stay_first():
    for words in ("post-push-primary: Primary", "post-pull-sidecars: _derived"):
        assert sent_back(VerificationError(words)).message == words


@pytest.mark.parametrize("family", sorted(set(vars(errors)) - set(dir(object()))))
def test_only_families_of_ours_can_be_named(family):
    fields = Fields(
        {"family": family, "code": "x", "message": "m", "hint": ""}, "error"
    )  # fmt: skip
    error = messages.parse_error(fields, "there")
    known = getattr(errors, family)
    ours = isinstance(known, type) and issubclass(known, UsrError)
    assert type(error) is (known if ours else RemoteError)
    assert error.hint is None


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("family", "code", "message", "hint"), values))
)
def test_an_error_that_is_nonsense_is_still_an_error_of_ours(message):
    try:
        error = messages.parse_error(Fields(message, "error"), "there")
    except UsrError as exc:
        error = exc
    assert isinstance(error, UsrError)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_what_another_host_says_is_harmless_on_a_terminal(text):
    shown = sent_back(UsrError(text, hint=text))
    for said in (shown.message, shown.hint or ""):
        assert all(char.isprintable() or char == "\n" for char in said)
    assert messages.printable("\x1b[31m\x07 ok\n") == "?[31m? ok\n"


def test_a_long_error_is_cut_to_what_the_other_end_will_read():
    error = sent_back(UsrError("m" * 100_000, hint="h" * 100_000))
    assert 8000 < len(error.message) < 9000
    assert len(error.hint) == 4096


# ── objects ───────────────────────────────────────────────────────────────────────────────
def node(data, kind=Kind.TREE):
    return kind, hash_object(kind, data), 0, len(data), data


def test_nodes_and_manifests_are_told_apart():
    rows = [node(b"tree"), node(b"manifest", Kind.MANIFEST)]
    nodes, manifests = messages.split_records(rows, kinds=(Kind.TREE, Kind.MANIFEST))
    assert nodes == {rows[0][1]: (Kind.TREE, b"tree")}
    assert manifests == {rows[1][1]: b"manifest"}


@pytest.mark.parametrize(
    "row",
    [
        node(b"recipe", Kind.RECIPE),
        node(b"chunk", Kind.CHUNK),
        (*node(b"tree")[:2], 1, 4, b"tree"),
        (*node(b"tree")[:3], 5, b"tree"),
    ],
    ids=["another kind", "a chunk", "compressed", "another size"],
)
def test_a_node_that_was_not_asked_for_is_refused(row):
    with pytest.raises(ProtocolError, match="not asked for"):
        messages.split_records([row], kinds=(Kind.TREE, Kind.MANIFEST))


def test_a_node_under_another_name_is_refused():
    with pytest.raises(UsrError) as caught:
        messages.split_records([(*node(b"tree")[:2], 0, 5, b"other")], kinds=(Kind.TREE,))
    assert "does not hash to its name" in caught.value.message


def test_metadata_is_bounded_by_its_bytes_and_its_number():
    rows = [node(b"sixsix"), node(b"sevense")]
    assert len(messages.split_records(rows, kinds=(Kind.TREE,), most=600)[0]) == 2
    for most in (262, 510):
        with pytest.raises(ProtocolError, match=f"{most} bytes of metadata"):
            messages.split_records(rows, kinds=(Kind.TREE,), most=most)


def test_an_object_that_comes_twice_is_refused():
    with pytest.raises(ProtocolError, match="twice"):
        messages.split_records([node(b"six"), node(b"six")], kinds=(Kind.TREE,))


def test_what_compared_and_proposal_carry_beside_is_sent_whole():
    tree, manifest = node(b"tree"), node(b"manifest", Kind.MANIFEST)
    nodes = {tree[1]: (Kind.TREE, b"tree")}
    answer = replace(PARSERS["compared"][2], nodes=nodes, manifests={manifest[1]: b"manifest"})
    proposal = replace(PARSERS["plan"][2], nodes=nodes, manifests={manifest[1]: b"manifest"})
    assert sorted(messages.compared_records(answer)) == sorted([tree, manifest])
    assert sorted(messages.proposal_records(proposal)) == sorted([tree, manifest])
