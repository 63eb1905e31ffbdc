"""tag: signed names for states, and whose they are."""

from __future__ import annotations

import re
import subprocess

import pytest

from support.datasets import DATASET
from support.lab import fingerprint
from usrstore.objects.ids import Kind, ObjectId
from usrstore.objects.manifest import Signed, Tag, tag_id
from usrstore.objects.names import tag_ref
from usrstore.odb.states import Act, Change
from usrstore.root import Root


@pytest.fixture
def story(lab):
    lab.usr("commit", DATASET, "-m", "first").ok()
    (lab.folder / "meta.md").write_text("second")
    lab.usr("commit", DATASET, "-m", "second").ok()
    return lab


def test_a_tag_names_a_state_and_is_signed(story):
    head = story.refs()[f"heads/{DATASET}"]
    said = story.usr("tag", f"{DATASET}@v1", "-m", "the paper\n\nfigure 2").ok()
    key = fingerprint(story.config)
    assert said.out == f"ns/x@v1 → {head[:12]}, signed by you {key} (good)\n"
    assert story.usr("rev-parse", f"{DATASET}@v1").out == f"{head}\n"
    assert story.usr("cat-file", "-t", story.refs()[f"tags/{DATASET}/v1"]).out == "tag\n"
    said = story.usr("tag", "-v", f"{DATASET}@v1").ok()
    assert said.lines[1] == f"State:   {head}"
    assert f"Signed:  you {key} (good)" in said.lines
    assert said.lines[-1] == "    figure 2"
    assert story.usr("tag").ok().out == f"ns/x@v1  {head[:12]}  good     the paper\n"


def test_which_dataset_and_which_state(story, monkeypatch):
    head = story.refs()[f"heads/{DATASET}"]
    first = story.usr("rev-parse", f"{DATASET}~1").out.strip()
    story.usr("tag", f"{DATASET}@old", f"{DATASET}~1").ok()
    story.usr("tag", "older", f"{DATASET}~1").ok()
    story.usr("tag", "x@short").ok()
    monkeypatch.chdir(story.folder)
    story.usr("tag", "here").ok()
    rows = {row["name"]: row["manifest"] for row in story.usr("tag", "--json").ok().data}
    assert rows == {"old": first, "older": first, "short": head, "here": head}
    assert story.usr("rev-parse", "x@old").out == f"{first}\n"


def test_listing(story):
    for name in ("v1", "v2", "paper"):
        story.usr("tag", f"{DATASET}@{name}").ok()

    def names(*words):
        return [row["name"] for row in story.usr("tag", *words, "--json").ok().data]

    assert names() == names(DATASET) == names("x") == ["paper", "v1", "v2"]
    assert names("-l", "v*") == names("-l", "ns/x@v*") == ["v1", "v2"]
    assert names("-l", "v1") == ["v1"]
    assert names("-l", "nothing*") == names("ns/nope") == []
    assert len(story.usr("show-ref", "--tags").ok().lines) == 3


def test_a_tag_is_not_replaced_but_by_force(story):
    story.usr("tag", f"{DATASET}@v1", f"{DATASET}~1").ok()
    before = story.refs()
    said = story.usr("tag", f"{DATASET}@v1").failed("tag-exists", 5)
    assert before[f"tags/{DATASET}/v1"] == story.refs()[f"tags/{DATASET}/v1"]
    assert "hint: take another name" in said.err
    story.usr("tag", "-f", f"{DATASET}@v1").ok()
    assert story.usr("rev-parse", f"{DATASET}@v1").out == story.usr("rev-parse", DATASET).out


def test_delete(story):
    story.usr("tag", f"{DATASET}@v1").ok()
    said = story.usr("tag", "-d", f"{DATASET}@v1").ok()
    assert re.fullmatch(r"deleted tag ns/x@v1 \(was [0-9a-f]{12}\)\n", said.out)
    assert story.usr("tag").ok().out == ""
    said = story.usr("tag", "-d", f"{DATASET}@v1").failed("revision-not-found", 4)
    assert "hint: it has no tags" in said.err
    story.usr("undo").ok()
    story.usr("tag", "-v", f"{DATASET}@v1").ok()


@pytest.mark.parametrize(
    "name",
    ["-x", ".x", "x.", "x.lock", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b",
     "", "a/b", "{}", "x" * 256, "a\x7f", "a\u200b"],
)  # fmt: skip
def test_names_that_git_refuses_are_refused(story, name):
    before = story.refs()
    story.usr("tag", "--", f"{DATASET}@{name}").failed("invalid-name", 3)
    assert story.refs() == before


def test_a_state_of_another_dataset_cannot_have_the_name(story):
    before = story.refs()
    story.usr("tag", "ns/other@v1", DATASET).failed("invalid-input", 3)
    story.usr("tag", "ns/other@v1").failed("revision-not-found", 4)
    assert story.refs() == before


def test_options_that_do_not_fit(story):
    for words in (["-d", "-l"], ["-d"], ["-v"], ["-d", "x@v", DATASET], ["-l", "-m", "x"]):
        story.usr("tag", *words).failed("usage", 2)


def test_a_second_person_countersigns(story, configs):
    ours = story.usr("tag", f"{DATASET}@v1").ok()
    story.use(configs["bob"])
    story.usr("tag", "-v", f"{DATASET}@v1").failed("signer-unknown", 7)
    head = story.refs()[f"heads/{DATASET}"]
    story.usr("tag", f"{DATASET}@checked-by-bob", f"{DATASET}@v1").ok()
    said = story.usr("tag", "-v", f"{DATASET}@checked-by-bob").ok()
    bob, ada = fingerprint(configs["bob"]), fingerprint(configs["ada"])
    assert f"State:   {head}" in said.lines
    assert f"Signed:  you {bob} (good)" in said.lines
    assert f"  state: {ada} (unknown)" in said.lines
    assert ours


def test_a_tag_without_a_key_is_not_verified(story, monkeypatch):
    monkeypatch.setenv("USR_SIGNING_KEY", "none")
    assert story.usr("tag", f"{DATASET}@v1").ok().out.endswith("signed by nobody (absent)\n")
    story.usr("tag", "-v", f"{DATASET}@v1").failed("signature-absent", 7)


def put(story, name, data, kind):
    """A ref that somebody else's program wrote."""
    root = Root(str(story.root))
    oid = tag_id(data) if kind is Kind.TAG else ObjectId(data)
    if kind is Kind.TAG:
        with root.database.batch() as batch:
            batch.put(kind, oid, data)
    root.states.advance({tag_ref(DATASET, name): Change(None, oid)}, Act("x", "x", 1))


def test_a_tag_moved_to_another_name_or_state_does_not_verify(story):
    story.usr("tag", f"{DATASET}@v1").ok()
    root = Root(str(story.root))
    oid = root.states.refs()[tag_ref(DATASET, "v1")]
    signed = Signed.decode(root.database.get(Kind.TAG, oid))
    put(story, "v2", signed.encode(), Kind.TAG)
    story.usr("tag", "-v", f"{DATASET}@v2").failed("graft", 7)
    tag = Tag.parse(signed.payload)
    first = ObjectId.parse(story.usr("rev-parse", f"{DATASET}~1").out.strip())
    forged = Tag(DATASET, "v3", first, tag.tagger, tag.time_us, tag.message)
    put(story, "v3", Signed(forged.payload(), signed.signature).encode(), Kind.TAG)
    story.usr("tag", "-v", f"{DATASET}@v3").failed("signature-bad", 7)
    put(story, "plain", first, Kind.MANIFEST)
    story.usr("tag", "-v", f"{DATASET}@plain").failed("signature-absent", 7)
    assert len(story.usr("tag").ok().lines) == 4


def test_stock_openssh_believes_a_tag(story, keygen, home):
    story.usr("tag", f"{DATASET}@v1").ok()
    oid = story.refs()[f"tags/{DATASET}/v1"]
    (home / "sig").write_bytes(story.raw("cat-file", "--signature", oid))
    done = subprocess.run(
        [keygen, "-Y", "check-novalidate", "-n", "usrstore", "-s", str(home / "sig")],
        input=story.raw("cat-file", "--payload", oid), capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert fingerprint(story.config).encode() in done.stdout
