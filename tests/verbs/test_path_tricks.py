"""Trees whose names would lead out of the dataset, onto our own files, or onto one another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support import datasets, liars, wires
from support.liars import Saying
from support.people import ALICE, BOB
from usrstore.errors import UsrError
from usrstore.objects import codec
from usrstore.objects.ids import Kind, hash_object
from usrstore.objects.tree import FolderEntry

OLD, NEW = datasets.old_files(), datasets.new_files()
CONTENT = hash_object(Kind.CHUNK, b"x")

FILES = {
    "up": "..", "here": ".", "nothing": "", "up and over": "../../evil", "absolute": "/etc/evil",
    "deep": "a/b", "NUL": "a\0b", "new line": "a\nb", "escape": "\x1b[2J", "C1": "a\x9b",
    "too long": "n" * 256, "our lock": ".usr.lock", "our lease": ".usr.lease.1",
    "our transfer lock": ".usr.transfer.lock", "the events lock": ".events.lock",
    "the primary elsewhere": "records.parquet", "the log elsewhere": ".events.log",
    "a section as a file": "_derived", "snapshots as a file": "_snapshots",
}  # fmt: skip
FOLDERS = {
    "up": "..",
    "nothing": "",
    "a section": "_derived",
    "slash": "a/b",
    "surrogate": "\udc80",
}


def node(*rows):
    """A tree node as no encoder of ours writes it."""
    data = codec.encode([1, 0, list(rows)])
    return hash_object(Kind.TREE, data), data


def file(name):
    return [name, 1, CONTENT, None]


def with_file(name):
    leaf, data = node(file(name))
    root, top = node(["auxiliary", leaf, 1, 1])
    return root, {leaf: data, root: top}, 1


def with_folder(name):
    leaf, data = node(file("x"))
    above, middle = node([name, leaf, 1, 1])
    root, top = node(["auxiliary", above, 1, 1])
    return root, {leaf: data, above: middle, root: top}, 1


def twice():
    leaf, data = node(file("a"), file("a"))
    root, top = node(["auxiliary", leaf, 2, 2])
    return root, {leaf: data, root: top}, 2


def unsorted():
    leaf, data = node(file("b"), file("a"))
    root, top = node(["auxiliary", leaf, 2, 2])
    return root, {leaf: data, root: top}, 2


def no_section():
    leaf, data = node(file("a"))
    root, top = node(["elsewhere", leaf, 1, 1])
    return root, {leaf: data, root: top}, 1


TRICKS = {
    **{f"file {what}": (lambda name=name: with_file(name)) for what, name in FILES.items()},
    **{
        f"folder {what}": (lambda name=name: with_folder(name))
        for what, name in FOLDERS.items()
        if what != "surrogate"  # msgpack cannot even spell it
    },
    "a name twice": twice,
    "names out of order": unsorted,
    "a section that there is not": no_section,
}


@pytest.fixture
def pair(make_pair):
    made = make_pair(OLD)
    made.push()
    made.pull()
    return made


@pytest.mark.spec("T-6")
@pytest.mark.parametrize("what", TRICKS)
@pytest.mark.parametrize("way", ["pull", "push"])
def test_a_tree_with_such_names_is_written_nowhere(pair, home, way, what):
    root, nodes, files = TRICKS[what]()
    found = {oid: (Kind.TREE, data) for oid, data in nodes.items()}
    source, target = (pair.there, pair.here) if way == "pull" else (pair.here, pair.there)
    source.write(NEW)
    before, around = target.everything(), sorted(path.name for path in home.iterdir())

    def compared(answer):
        said = replace(answer, root=FolderEntry("", root, files, files), nodes=found)
        return liars.forged_head(BOB, tree=root)(said)

    def proposed(proposal):
        said = replace(proposal, nodes={**proposal.nodes, **found})
        return liars.forged_proposal(ALICE, tree=root)(said)

    with pytest.raises(UsrError) as caught:
        if way == "pull":
            pair.pull(wires.connect(Saying(pair.there.host(), compared=compared)))
        else:
            pair.push(Saying(wires.connect(pair.there.host()), proposed=proposed))
    assert caught.value.code
    assert target.everything() == before
    assert target.root.journaled() == []
    assert sorted(path.name for path in home.iterdir()) == around
    assert getattr(pair, way)().state == "TRANSFERRED"  # and on we go
