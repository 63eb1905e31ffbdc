"""Every kind of damage, to every kind of file in a store, before every kind of command.

No command gives a wrong result or a traceback: it does what it would have done, or it refuses,
names the thing and says what to do. A check finds all damage that can be told from health,
and a repair heals all that something else vouches for.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from dataclasses import replace

import pytest

from support import datasets
from support.damage import data_packs
from support.datasets import DATASET
from support.faults import CRASHED, Crash, count_calls, in_child
from support.lab import Lab, make_config
from support.pairs import Place
from support.people import make_who
from usrstore.errors import UsrError
from usrstore.odb import reach

LOG = b"".join(b'{"event": %d, "action": "append", "rows": 12}\n' % n for n in range(1500))
OLD = {**datasets.old_files(), ".events.log": LOG}
NEW = {**datasets.new_files(), ".events.log": LOG + LOG}
NEXT = {**NEW, "meta.md": b"# third\n", "_artifacts/more": b"more"}


# ── damage ──────────────────────────────────────────────────────────────────────────────
def delete(path, region, other):
    path.unlink()


def truncate(path, region, other):
    path.write_bytes(path.read_bytes()[: (region.start + region.stop) // 2])


def flip(path, region, other):
    data = bytearray(path.read_bytes())
    data[(region.start + region.stop) // 2] ^= 4
    path.write_bytes(data)


def swap(path, region, other):
    """With a file of its kind; or, where there is no other, its own two halves."""
    data = path.read_bytes()
    if other is not None:
        path.write_bytes(other.read_bytes())
        other.write_bytes(data)
        return
    half = (region.stop - region.start) // 2
    one = data[region.start : region.start + half]
    two = data[region.start + half : region.start + 2 * half]
    path.write_bytes(data[: region.start] + two + one + data[region.start + 2 * half :])


def append(path, region, other):
    data = path.read_bytes()
    path.write_bytes(data + data[region.start : region.start + 100])


def zero(path, region, other):
    data = path.read_bytes()
    path.write_bytes(data[: region.start] + bytes(region.stop - region.start) + data[region.stop :])


DAMAGES = (delete, truncate, flip, swap, append, zero)


# ── what is damaged: file, region, another of its kind ──────────────────────────────────
def _data_pack(place):
    path, pack = max(data_packs(place), key=lambda pair: pair[0].stat().st_size)
    size, index = path.stat().st_size, 52 * pack.index.count
    return path, size - 56 - index, size - 56, size


def data_pack_body(place):
    path, body, _, _ = _data_pack(place)
    return path, range(8, body), None


def data_pack_index(place):
    path, body, end, _ = _data_pack(place)
    return path, range(body, end), None


def data_pack_trailer(place):
    path, _, end, size = _data_pack(place)
    return path, range(end, size), None


def meta_pack(place):
    found = place.root.database.find(place.head())
    path = place.path / ".usr" / "packs" / f"{found.pack.pack}.pack"
    return path, range(8, path.stat().st_size), _data_pack(place)[0]


def pack_header(place):
    path, *_ = _data_pack(place)
    return path, range(8), None


def _object(place, oid):
    """One object of a metadata pack: its bytes as they lie there."""
    found = place.root.database.find(oid)
    path = place.path / ".usr" / "packs" / f"{found.pack.pack}.pack"
    return path, range(found.row.offset, found.row.offset + found.row.stored), None


def manifest(place):
    return _object(place, place.head())


def tree(place):
    return _object(place, place.manifest().tree)


def recipe(place):
    listing = reach.listing(place.root.database.get, place.manifest().tree)
    return _object(place, listing["records.parquet"].recipe)


def tag(place):
    (oid,) = [oid for name, oid in place.refs().items() if name.startswith("tags/")]
    return _object(place, oid)


def _whole(path, other=None):
    return path, range(path.stat().st_size), other


def newest_state(place):
    """Around the id of its head: nothing vouches yet for what it says of who did what, and when."""
    states = sorted((place.path / ".usr" / "states").iterdir())
    data = states[-1].read_bytes()
    middle = data.index(place.head()) + 16
    either_way = min(middle, len(data) - middle)
    return states[-1], range(middle - either_way, middle + either_way), states[-2]


def older_state(place):
    states = sorted((place.path / ".usr" / "states").iterdir())
    return _whole(states[0], states[1])


def stat_cache(place):
    return _whole(place.path / ".usr" / "index" / "ns@x")


def journal(place):
    return _whole(place.path / ".usr" / "journal" / "ns@x")


def config(place):
    return _whole(place.path / ".usr" / "config")


def seen(place):
    return _whole(place.path / ".usr" / "seen.json")


def remotes(place):
    return _whole(place.path / ".usr" / "remotes.yaml")


def quarantine_log(place):
    (log,) = (place.path / ".usr" / "quarantine").glob("*/*/landed")
    return _whole(log)


def quarantine_chunks(place):
    """The staged file into which chunks have landed."""
    (log,) = (place.path / ".usr" / "quarantine").glob("*/*/landed")
    files = [path for path in log.parent.iterdir() if path.name not in ("landed", "whole")]
    return _whole(max(files, key=lambda path: path.stat().st_size))


THINGS = (
    data_pack_body, data_pack_index, data_pack_trailer, pack_header, meta_pack, recipe, tree,
    manifest, tag, newest_state, older_state, stat_cache, journal, config, seen, remotes,
    quarantine_log, quarantine_chunks,
)  # fmt: skip

# What looks exactly like a store to which this never happened, or was said otherwise.
LIKE_HEALTH = {
    *((remotes, damage) for damage in (flip, truncate, append)),  # other folders were named
    (older_state, delete),  # the oldest may have been dropped
    *((thing, delete) for thing in (stat_cache, config, seen, remotes, quarantine_log)),
    *((quarantine_chunks, damage) for damage in DAMAGES),  # hashed before it is believed
    (newest_state, delete),
    (quarantine_log, truncate),  # fewer chunks have landed
    (quarantine_log, swap),  # chunks that landed elsewhere count as not landed
    (quarantine_log, append),  # a record that was cut off, or one that is there twice
}
# What a person said, and only a person can say again.
SETTINGS = (config, seen, remotes)
NAMES = {
    config: ".usr/config", seen: "seen.json", remotes: "remotes.yaml", journal: "journal",
    newest_state: "state", older_state: "state",
}  # fmt: skip


# ── the store that is damaged ───────────────────────────────────────────────────────────
@pytest.fixture(scope="session")
def person(tmp_path_factory):
    return make_config(tmp_path_factory.mktemp("person"))


@pytest.fixture(scope="session")
def templates(memory_home, person):
    """A store with two kept states, a remote that has both, and something interrupted."""
    made = {}

    def get(kind, lab):
        if kind not in made:
            lab.write(OLD)
            lab.usr("commit", DATASET, "-m", "first").ok()
            lab.write(NEW)
            lab.usr("commit", DATASET, "-m", "second").ok()
            lab.usr("tag", f"{DATASET}@two", "-m", "the second").ok()
            lab.usr("push", DATASET, "lab", "-y").ok()
            (lab.root / ".usr" / "config").write_text('[trust]\nmode = "tofu"\n')
            datasets.write(lab.far, NEXT)
            _interrupt(lab, kind)
            datasets.write(lab.far, NEW)
            home = memory_home / f"template-{kind}"
            shutil.copytree(lab.home, home, copy_function=shutil.copy2)
            made[kind] = home
        return made[kind]

    return get


def _interrupt(lab, kind):
    """A pull that dies with chunks in quarantine, or in the middle of its renames."""

    def pull():
        lab.usr("pull", DATASET, "lab", "-y")

    # Only these calls are counted: in a copy of the folder the stat cache is written anew.
    within = lab.root if kind == "journal" else lab.root / ".usr" / "quarantine"
    count = count_calls_in_copy(lab, pull, within)
    if kind == "journal":
        numbers = [n for n, (op, path) in enumerate(count, 1)
                   if op == "rename" and "here/ns/x/" in path]  # fmt: skip
    else:
        numbers = [n for n, (op, path) in enumerate(count, 1)
                   if op == "write" and path.endswith("landed")]  # fmt: skip
    tap = Crash(within=str(within), number=numbers[-1], when="after")
    assert in_child(pull, tap=tap, log=lab.home / "log") == CRASHED


def count_calls_in_copy(lab, act, within):
    keep = lab.home.parent / f"{lab.home.name}-keep"
    shutil.copytree(lab.home, keep, copy_function=shutil.copy2)
    calls = count_calls(act, within=within)
    shutil.rmtree(lab.home)
    keep.rename(lab.home)
    return calls


@pytest.fixture
def lab(home, person, capsys, monkeypatch):
    (home / "lab").mkdir()
    made = Lab(home / "lab", person, capsys, monkeypatch)
    made.usr("init", made.root).ok()
    shutil.move(made.remotes, made.root / ".usr" / "remotes.yaml")
    monkeypatch.delenv("USR_REMOTES_PATH")
    return made


def place_of(lab):
    return Place(lab.root, make_who("ada"))


@pytest.fixture
def fresh(lab, templates):
    """Gives the store anew, as it was before anything was done to it."""

    def make(kind):
        home = templates(kind, lab)
        for name in ("here", "there"):
            shutil.rmtree(lab.home / name, ignore_errors=True)
            shutil.copytree(home / name, lab.home / name, copy_function=shutil.copy2)
        text = f"remotes:\n  lab:\n    type: folder\n    base_dir: {lab.there}\n"
        (lab.root / ".usr" / "remotes.yaml").write_text(text)
        return place_of(lab)

    return make


CASES = [
    pytest.param(
        thing,
        damage,
        marks=[] if damage is flip else [pytest.mark.slow],
        id=f"{damage.__name__}-{thing.__name__}",
    )
    for thing in THINGS
    for damage in DAMAGES
]


TRIED = Counter()


def harm(lab, fresh, thing, damage, command):
    TRIED[thing.__name__, damage.__name__, command] += 1
    place = fresh("journal" if thing is journal else "quarantine")
    if thing is stat_cache:  # a copy of a folder has other inodes, which nothing is known of
        lab.usr("status", DATASET).ok()
    path, region, other = thing(place)
    damage(path, region, other)
    return place_of(lab)


@pytest.mark.parametrize(("thing", "damage"), CASES)
def test_a_look_is_right_or_refused(lab, fresh, thing, damage):
    kind = "journal" if thing is journal else "quarantine"
    for words in (("status", DATASET, "--porcelain"), ("log", DATASET, "--oneline"),
                  ("diff", DATASET, "lab", "--porcelain"), ("show", DATASET)):  # fmt: skip
        fresh(kind)
        right = [lab.usr(*words).ok().out]
        if (thing, damage) == (newest_state, delete):
            states = sorted((lab.root / ".usr" / "states").iterdir())
            states[-1].unlink()
            right.append(lab.usr(*words).out)
        harm(lab, fresh, thing, damage, words[0])
        said = lab.usr(*words)
        if said.status:
            refused(said, thing)
        elif words[0] in ("log", "show"):
            assert without_kept(said.out) in [without_kept(text) for text in right], words
        else:
            assert said.out in right, words


def without_kept(text):
    """What is lost from packs may truly be called light."""
    return [word for word in text.split() if word.strip("()") not in ("kept", "light")]


def refused(said, thing):
    assert said.status > 1, said
    assert "\nhint: " in said.err, said.err
    assert "Traceback" not in said.err
    if thing is newest_state and said.code in ("object-not-found", "incomplete"):
        return  # it names what the id that it was given stands for
    assert NAMES.get(thing, "") in said.err or (thing is remotes and said.code != "config"), (
        said.err
    )


@pytest.mark.parametrize(("thing", "damage"), CASES)
def test_a_commit_keeps_the_folder_or_refuses(lab, fresh, thing, damage):
    place = harm(lab, fresh, thing, damage, "commit")
    if thing is not journal:
        datasets.write(lab.folder, NEXT)
    before = lab.read()
    states = sorted((lab.root / ".usr" / "states").iterdir())
    said = lab.usr("commit", DATASET, "-m", "third")
    if said.status:
        refused(said, thing)
        assert sorted((lab.root / ".usr" / "states").iterdir()) == states
        assert lab.read() == before
        return
    if thing is not journal:
        assert lab.read() == before == NEXT
    found = lab.usr("fsck", "--deep", "--json").data["findings"]
    if not any(f["code"] in ("object-damaged", "unreachable", "pack-damaged") for f in found):
        assert replace(place).kept() == lab.read()


@pytest.mark.parametrize(("thing", "damage"), CASES)
def test_a_checkout_gives_the_state_or_leaves_the_folder(lab, fresh, thing, damage):
    harm(lab, fresh, thing, damage, "checkout")
    before = lab.read()
    said = lab.usr("checkout", f"{DATASET}~1", "-y")
    if said.status:
        refused(said, thing)
        assert lab.read() in (before, OLD, NEW, NEXT)
    elif (thing, damage) != (newest_state, delete):
        assert lab.read() == OLD


@pytest.mark.parametrize(("thing", "damage"), CASES)
def test_a_check_finds_it_and_a_repair_heals_it(lab, fresh, thing, damage):
    place = harm(lab, fresh, thing, damage, "fsck")
    said = lab.usr("fsck", "--deep", "--json")
    codes = {finding["code"] for finding in said.data["findings"]} - {"interrupted"}
    if (thing, damage) not in LIKE_HEALTH:
        assert codes, "nothing was found"
        assert said.status == 1
    for finding in said.data["findings"]:
        assert finding["remedy"]
    remote = [] if thing is remotes else ["--from", "lab"]
    mended = lab.usr("fsck", "--repair", *remote, "--json")
    left = {finding["code"] for finding in mended.data["findings"]} - {"interrupted"}
    if thing in SETTINGS:
        assert left == codes
        assert not mended.data["repaired"]
        return
    if thing in (data_pack_body, data_pack_index, data_pack_trailer, pack_header) and left:
        assert left == {"unreachable"}
        lost = [text for finding in mended.data["findings"] for text in finding["affects"]]
        assert all(text.startswith("ns/x state 1 ") for text in lost), "which nothing else holds"
        assert damage not in (append, flip) or thing is data_pack_body
    elif thing is tag and left:
        # Of a state that is not the remote's newest: no question asks a remote for such a tag.
        assert left <= {"unreachable", "pack-damaged"}
        lost = [f["where"] for f in mended.data["findings"] if f["code"] == "unreachable"]
        assert lost == ["tags/ns/x/two"]
    elif thing is older_state and damage in (truncate, zero, delete) and left:
        assert left == {"state-damaged"}, "its bytes are nowhere, and nothing else was hurt"
    else:
        assert left == set(), mended.out
    again = lab.usr("fsck", "--repair", *remote, "--json")
    assert again.data["repaired"] == []
    place = place_of(lab)
    head = place.head()
    if (thing, damage) == (newest_state, delete) or thing is journal:
        return
    assert place.kept(head) == NEW
    if left == {"unreachable"}:
        return
    assert place.kept(place.manifest(head).parents[0]) == OLD


@pytest.mark.parametrize(("thing", "damage"), CASES)
def test_a_push_gives_the_folder_or_leaves_the_remote(lab, fresh, thing, damage):
    harm(lab, fresh, thing, damage, "push")
    if thing is not journal:
        datasets.write(lab.folder, NEXT)
    before, far = lab.read(), datasets.read(lab.far)
    said = lab.usr("push", DATASET, "lab", "-y")
    if said.status:
        if (thing, damage, said.code) != (newest_state, delete, "remote-ahead"):
            refused(said, thing)
        assert datasets.read(lab.far) == far
        return
    if thing is not journal:
        assert lab.read() == before
    assert datasets.read(lab.far) == lab.read()


@pytest.mark.parametrize(("thing", "damage"), CASES)
def test_a_pull_gives_the_remotes_files_or_leaves_the_folder(lab, fresh, thing, damage):
    harm(lab, fresh, thing, damage, "pull")
    datasets.write(lab.far, NEXT)
    before, far = lab.read(), datasets.read(lab.far)
    said = lab.usr("pull", DATASET, "lab", "-y")
    assert datasets.read(lab.far) == far
    if said.status:
        refused(said, thing)
        assert lab.read() in ((before, NEW, NEXT) if thing is journal else (before,))
    else:
        assert lab.read() == NEXT


@pytest.mark.parametrize(("thing", "damage"), CASES)
def test_a_collection_costs_nothing_that_could_be_read_before(lab, fresh, thing, damage):
    place = harm(lab, fresh, thing, damage, "gc")
    before, could = lab.read(), readable(place)
    said = lab.usr("gc", "--grace", "0s")
    again = lab.usr("gc", "--grace", "0s")  # what the first condemned goes now
    for done in (said, again):
        if done.status:
            refused(done, thing)
    assert lab.read() in ((before, NEW, NEXT) if thing is journal else (before,))
    assert could.items() <= readable(place_of(lab)).items()


def readable(place):
    """The files that each kept state gives, of those that give any."""
    found = {}
    try:
        states = [place.head(), place.manifest().parents[0]]
    except UsrError:
        return found
    for oid in states:
        with contextlib.suppress(UsrError):
            found[oid] = place.kept(oid)
    return found


COMMANDS = ("status", "log", "diff", "show", "commit", "checkout", "fsck", "push", "pull", "gc")


def test_the_matrix_is_whole():
    """Every kind of file that a store has, every damage, every command: nothing is left out."""
    whole = len(THINGS) * len(DAMAGES) * len(COMMANDS)
    print(f"damage matrix: {sum(TRIED.values())} of {whole} cells tried in this run")
    assert {command for *_, command in TRIED} <= set(COMMANDS)
    assert set(TRIED.values()) <= {1}
