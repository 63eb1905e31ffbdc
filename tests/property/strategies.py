"""Objects of every kind, as hypothesis draws them."""

from __future__ import annotations

from hypothesis import strategies as st

from usrstore.objects import names
from usrstore.objects.ids import (
    ChunkId,
    ContentHash,
    Kind,
    ManifestId,
    ObjectId,
    RecipeId,
    StateId,
    TreeId,
    hash_object,
)
from usrstore.objects.manifest import Manifest, Signed, Tag
from usrstore.objects.recipe import Part, Recipe
from usrstore.objects.state import State
from usrstore.objects.tree import FileEntry, FolderEntry, Tree

MIB = 1 << 20
# Ids that end nodes and ids that do not, so that short lists have several nodes.
oids = st.one_of(
    st.binary(min_size=32, max_size=32),
    st.integers(0, 200).map(lambda n: hash_object(Kind.CHUNK, b"%d" % n)),
    st.sampled_from([bytes(32), b"\xff" * 32]),
).map(ObjectId)

entry_names = st.one_of(
    st.sampled_from(
        [
            "a",
            "b",
            "records.parquet",
            "_derived",
            ".x",
            "-",
            " ",
            "é",
            "e\u0301",
            "\uffff",
            "\U00010000",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
).filter(lambda name: names.entry_problem(name) is None)


def texts(most):
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=most)


components = st.from_regex(r"[a-zé0-9_]([a-z0-9_.-]{0,8}[a-z0-9])?", fullmatch=True).filter(
    lambda name: not name.endswith(".lock") and ".." not in name and name != "archived"
)
datasets = st.one_of(components, st.tuples(components, components).map("/".join))
refs = st.one_of(
    datasets.map(lambda d: f"heads/{d}"),
    st.tuples(components, datasets).map(lambda pair: f"remotes/{pair[0]}/{pair[1]}"),
    st.tuples(datasets, components).map(lambda pair: f"tags/{pair[0]}/{pair[1]}"),
)
times = st.integers(0, 1 << 60)
counts = st.none() | st.integers(0, 1 << 60)


@st.composite
def file_entries(draw, name=None):
    content = ContentHash(draw(oids))
    recipe = draw(st.none() | oids.map(RecipeId))
    most = MIB if recipe is None else 1 << 40
    return FileEntry(
        draw(entry_names) if name is None else name, draw(st.integers(0, most)), content, recipe
    )


@st.composite
def folder_entries(draw):
    return FolderEntry(
        draw(entry_names),
        TreeId(draw(oids)),
        draw(st.integers(1, 1 << 10)),
        draw(st.integers(0, 1 << 40)),
    )


@st.composite
def trees(draw):
    height = draw(st.sampled_from([0, 0, 0, 1, 2, 12]))
    rows = draw(
        st.lists(folder_entries() if height else file_entries() | folder_entries(), max_size=40)
    )
    unique = {entry.name: entry for entry in rows}
    return Tree(height, tuple(sorted(unique.values(), key=lambda e: e.name.encode())))


@st.composite
def recipes(draw):
    height = draw(st.sampled_from([0, 0, 1, 12]))
    sizes = st.integers(1, 1 << 40 if height else MIB)
    parts = draw(st.lists(st.builds(Part, oids, sizes), min_size=1, max_size=60))
    return Recipe(height, tuple(parts))


@st.composite
def manifests(draw):
    parents = draw(st.lists(oids.map(ManifestId), max_size=4, unique=True))
    return Manifest(
        dataset=draw(datasets),
        sequence=draw(st.integers(2, 1 << 53)) if parents else 1,
        tree=TreeId(draw(oids)),
        parents=tuple(parents),
        author=draw(texts(30)),
        host=draw(texts(30)),
        tool=draw(texts(30)),
        time_us=draw(times),
        message=draw(texts(80)),
        registry=draw(
            st.none()
            | file_entries("registry.yaml").map(
                lambda e: e._replace(recipe=None, size=min(e.size, MIB))
            )
        ),
        rows=draw(counts),
        columns=draw(counts),
        schema=draw(st.none() | oids.map(ContentHash)),
        events=draw(counts),
        policy=tuple(sorted(draw(st.sets(texts(20), max_size=4)))),
    )


tags = st.builds(Tag, datasets, components, oids.map(ManifestId), texts(30), times, texts(80))
signed = st.builds(Signed, st.binary(max_size=200), st.none() | st.binary(max_size=200))


@st.composite
def states(draw):
    number = draw(st.one_of(st.just(1), st.integers(2, (1 << 64) - 1)))
    return State(
        number=number,
        previous=None if number == 1 else StateId(draw(oids)),
        refs=draw(st.dictionaries(refs, oids, max_size=6)),
        time_us=draw(times),
        actor=draw(texts(30)),
        command=draw(texts(60)),
        reason=draw(texts(60)),
    )


# kind → (values, encode, decode)
KINDS = {
    "recipe": (recipes(), Recipe.encode, Recipe.decode),
    "tree": (trees(), Tree.encode, Tree.decode),
    "signed": (signed, Signed.encode, Signed.decode),
    "manifest": (manifests(), Manifest.payload, Manifest.parse),
    "tag": (tags, Tag.payload, Tag.parse),
    "state": (states(), State.encode, State.decode),
}

WORDS = st.sampled_from(
    ["a", "b", "_derived", "_snapshots", "records.parquet", "sub", "é", "z" * 40]
)


@st.composite
def listings(draw):
    """Listings of datasets: several folders, one of them long, no file where a folder is."""
    listing = {}
    for path in draw(st.sets(st.lists(WORDS, min_size=1, max_size=4).map("/".join), max_size=12)):
        head, slash, _ = path.partition("/")
        if head in (["records.parquet"] if slash else ["_derived", "_snapshots"]):
            continue  # reserved
        listing[path] = draw(file_entries(path.rpartition("/")[2]))
    for number in range(draw(st.sampled_from([0, 0, 0, 50, 400]))):
        name = f"{number:04}"
        oid = hash_object(Kind.CHUNK, name.encode())
        listing[f"long/{name}"] = FileEntry(name, number, ContentHash(oid), None)
    folders = {path[:at] for path in listing for at, c in enumerate(path) if c == "/"}
    return {path: entry for path, entry in listing.items() if path not in folders}


chunk_lists = st.lists(
    st.tuples(oids.map(ChunkId), st.integers(1, MIB)), min_size=2, max_size=40
).map(lambda parts: parts * 9)
