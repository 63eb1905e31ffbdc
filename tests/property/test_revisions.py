"""Revisions beside a model: a history of any shape, refs that moved any number of times."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.memory import memory
from support.people import make_who
from usrstore.errors import AmbiguousRevisionError, InvalidInputError, NotFoundError, UsrError
from usrstore.objects.ids import Kind, TreeId, hash_object
from usrstore.objects.names import check_ref, dataset_of
from usrstore.objects.revision import split_range
from usrstore.odb.states import Act, Change
from usrstore.root import Root
from usrstore.verbs.revisions import parse_moment, resolve
from usrstore.verbs.site import Site
from usrstore.worktree.statcache import Facts

DATASET = "ns/x"
SECOND = 1_000_000


class World:
    """A store with a history, and the same as plain values."""

    def __init__(self, shape, moves, tags):
        self.home = Path(tempfile.mkdtemp(dir=memory()))
        self.root = Root(str(self.home))
        self.root.create_store()
        site = Site.open(self.root, DATASET, make_who("ada", None))
        self.parents, self.ids = {}, []
        for number, picks in enumerate(shape):
            above = list(dict.fromkeys(self.ids[pick % number] for pick in picks)) if number else []
            tree = TreeId(hash_object(Kind.TREE, b"%d" % number))
            oid = site.make_manifest(tree, above, facts=Facts(), message=str(number))
            self.parents[oid] = above
            self.ids.append(oid)
        site.overlay.flush()
        self.past = []  # (time, head) of each move
        for number, pick in enumerate(moves, 1):
            self.move(f"heads/{DATASET}", self.ids[pick % len(self.ids)], number * SECOND)
        self.tags = {f"v{n}": self.ids[pick % len(self.ids)] for n, pick in enumerate(tags)}
        for name, oid in self.tags.items():
            self.move(f"tags/{DATASET}/{name}", oid, 10**12)

    def move(self, name, oid, time_us):
        ref = check_ref(name)
        now = self.root.states.refs().get(ref)
        self.root.states.advance({ref: Change(now, oid)}, Act("ada", "test", time_us))
        if name.startswith("heads/") and now != oid:
            self.past.append((time_us, oid))

    def find(self, text):
        return resolve(self.root, text, now_us=2 * 10**12)[0]

    def climb(self, oid, steps):
        """The model of ~ and ^; None where there is no such state."""
        for sign, count in steps:
            if oid is None:
                return None
            if sign == "^":
                above = self.parents[oid]
                oid = oid if count == 0 else above[count - 1] if count <= len(above) else None
            else:
                for _ in range(count):
                    above = self.parents[oid] if oid is not None else []
                    oid = above[0] if above else None
        return oid


worlds = st.tuples(
    st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=3), min_size=1, max_size=9),
    st.lists(st.integers(0, 50), min_size=1, max_size=6),
    st.lists(st.integers(0, 50), max_size=2),
)
steps = st.lists(st.tuples(st.sampled_from("~^"), st.integers(0, 4)), max_size=4)


@pytest.mark.spec("F-36")
@settings(max_examples=40, deadline=None)
@given(worlds, st.data())
def test_every_form_finds_what_the_model_finds(shape, data):
    world = World(*shape)
    try:
        head = world.past[-1][1]
        bases = {DATASET: head, "x": head, f"heads/{DATASET}": head, f"{DATASET}@{{0}}": head}
        bases |= {f"{DATASET}@{name}": oid for name, oid in world.tags.items()}
        bases |= {f"tags/{DATASET}/{name}": oid for name, oid in world.tags.items()}
        for back, (_, oid) in enumerate(reversed(world.past)):
            bases[f"{DATASET}@{{{back}}}"] = oid
        bases[f"{DATASET}@{{{len(world.past)}}}"] = None
        for oid in world.ids:
            bases |= {oid.hex(): oid, oid.hex()[:16]: oid, oid.hex()[:16].upper(): oid}
        base = data.draw(st.sampled_from(sorted(bases)))
        path = data.draw(steps)
        text = base + "".join(f"{sign}{count}" for sign, count in path)
        expected = world.climb(bases[base], path)
        if expected is None:
            with pytest.raises(NotFoundError) as caught:
                world.find(text)
            assert caught.value.hint, text
        else:
            assert world.find(text) == expected, text
        when = data.draw(st.integers(0, len(world.past) + 2)) * SECOND
        then = [oid for time_us, oid in world.past if time_us <= when]
        stamp = f"{DATASET}@{{1970-01-01T00:00:{when // SECOND:02d}+00:00}}"
        if then:
            assert world.find(stamp) == then[-1]
        else:
            with pytest.raises(NotFoundError):
                world.find(stamp)
    finally:
        shutil.rmtree(world.home)


@pytest.fixture
def world():
    made = World([[0], [0], [0, 1]], [0, 1, 2], [1])
    yield made
    shutil.rmtree(made.home)


def test_what_could_be_two_things_is_refused_and_both_are_named(world):
    world.move("heads/other/x", world.ids[0], 1)
    with pytest.raises(AmbiguousRevisionError, match="ns/x, other/x"):
        world.find("x")
    assert world.find("ns/x")
    world.move("heads/lab/y", world.ids[0], 1)
    world.move("remotes/lab/y", world.ids[0], 1)
    assert world.find("lab/y") == world.ids[0], "both are the same state"
    states = world.root.states
    ref = check_ref("remotes/lab/y")
    states.advance({ref: Change(world.ids[0], world.ids[1])}, Act("ada", "test", 1))
    with pytest.raises(AmbiguousRevisionError) as caught:
        world.find("lab/y")
    assert caught.value.hint == "write heads/lab/y or remotes/lab/y"
    assert world.find("heads/lab/y") == world.ids[0]
    assert world.find("remotes/lab/y") == world.ids[1]


def test_the_past_is_of_the_ref_that_was_named(world):
    world.move("remotes/lab/ns/x", world.ids[0], 10**12)
    world.move("remotes/lab/ns/x", world.ids[1], 10**12)
    assert world.find("lab/ns/x@{0}") == world.ids[1]
    assert world.find("lab/ns/x@{1}") == world.ids[0]
    assert world.find("ns/x@{u}") == world.ids[1]
    world.move("remotes/far/ns/x", world.ids[0], 10**12)
    with pytest.raises(NotFoundError) as caught:
        world.find("ns/x@{u}")
    assert "lab/ns/x" in caught.value.hint


@pytest.mark.parametrize("text", ["ns/x~1@v0", "ns/x@v0@v0", "ns/x^@{1}", "{id}@v0", "{id}@{{1}}"])
def test_what_belongs_to_a_name_is_refused_elsewhere(world, text):
    with pytest.raises(InvalidInputError) as caught:
        world.find(text.format(id=world.ids[0].hex()) if "{id}" in text else text)
    assert "belongs right behind" in caught.value.message
    assert caught.value.hint


@given(st.text(st.sampled_from("a.{}@~:^/1"), max_size=14))
def test_a_range_is_its_two_ends_or_none(text):
    try:
        ends = split_range(text)
    except InvalidInputError as exc:
        assert exc.hint
        return
    if ends is None:
        assert ".." not in text or "{" in text or "}" in text
    else:
        assert "..".join(ends) == text
        assert any(ends)


@given(
    st.text(max_size=12) | st.sampled_from(["0001-01-01", "9999-12-31", "999999999999 years ago"])
)
def test_any_text_is_a_moment_or_refused(text):
    try:
        assert isinstance(parse_moment(text, 10**15), int)
    except UsrError as exc:
        assert exc.hint


def test_every_ref_knows_its_dataset():
    for name in ("heads/a/b", "folders/a/b", "remotes/lab/a/b", "tags/a/b/v1"):
        assert dataset_of(check_ref(name)) == "a/b"
    for name in ("heads/a", "folders/a", "remotes/lab/a", "tags/a/v1"):
        assert dataset_of(check_ref(name)) == "a"
