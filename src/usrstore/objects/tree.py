"""Tree: a folder as sorted entries ([F-15]…[F-22]). Equal folders have equal ids (I8).

Long folders are cut into nodes (see `nodes`), so that one added file in thousands costs a
few kilobytes. `build` makes the trees of a whole dataset from its listing; `flatten` reads
them back and refuses every tree that `build` would not have made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from usrstore.errors import DecodeError, InvalidInputError
from usrstore.objects import codec, names, nodes, sections
from usrstore.objects.ids import ContentHash, Kind, ObjectId, RecipeId, TreeId, hash_object

MAX_FILES = 1 << 22  # a listing is held in memory: 2 GB at most
MAX_PATHS_CHARS = 1 << 30  # of all files of a tree: few nodes can name very many
MAX_NODE_BYTES = 1 << 18


class FileEntry(NamedTuple):
    """A file: what it is (size, content hash) and the recipe that stores it.

    `recipe` is None when the file is one chunk; its content hash is then the chunk's id.
    """

    name: str
    size: int
    content: ContentHash
    recipe: RecipeId | None


class FolderEntry(NamedTuple):
    """A folder, or at greater heights a node of this folder under the name of its last entry."""

    name: str
    tree: TreeId
    files: int
    size: int


Entry = FileEntry | FolderEntry
Listing = dict[str, FileEntry]
"""Path in the dataset folder → file; `name` of the entry is the last part of the path."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One node of a folder: entries at height 0, nodes of the same folder above."""

    height: int
    entries: tuple[Entry, ...]

    @property
    def files(self) -> int:
        return sum(1 if isinstance(e, FileEntry) else e.files for e in self.entries)

    @property
    def size(self) -> int:
        return sum(e.size for e in self.entries)

    def encode(self) -> bytes:
        return codec.encode([codec.FORMAT, self.height, self.entries])

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Tree:
        """Raises: DecodeError."""
        match codec.decode(data, limit=MAX_NODE_BYTES, longest=nodes.MAX_ITEMS, maps=0):
            case [codec.FORMAT, int(height), list(rows)] if (
                not isinstance(height, bool) and 0 <= height <= nodes.MAX_HEIGHT
            ):
                pass
            case other:
                raise codec.refused(other, "tree")
        tree = cls(height, tuple(_entry(row, height) for row in rows))
        keys = [entry.name.encode() for entry in tree.entries]
        if any(a >= b for a, b in pairwise(keys)):
            raise DecodeError("a tree whose entries are not sorted and unique")
        _bounded(tree.files, tree.size)
        return codec.same(tree, tree.encode(), data, "tree")


def _entry(row: Any, height: int) -> Entry:
    match row:
        case [str(name), int(size), bytes(content), None | bytes() as recipe] if not height:
            entry: Entry = FileEntry(
                name,
                codec.integer(size, "size"),
                ContentHash(_oid(content)),
                None if recipe is None else RecipeId(_oid(recipe)),
            )
        case [str(name), bytes(tree), int(files), int(size)]:
            entry = FolderEntry(
                name,
                TreeId(_oid(tree)),
                codec.integer(files, "files", most=MAX_FILES),
                codec.integer(size, "size"),
            )
        case _:
            raise DecodeError("a tree entry that is neither file nor folder")
    if problem := names.entry_problem(name):
        raise DecodeError(f"a tree entry named {name!r}: {problem}")
    if isinstance(entry, FileEntry):
        if entry.recipe is None and entry.size > codec.MAX_CHUNK_BYTES:
            raise DecodeError(f"a single chunk of {entry.size} bytes")
    elif entry.files == 0:
        raise DecodeError(f"an empty folder {name!r}")
    return entry


def _bounded(files: int, size: int) -> None:
    if files > MAX_FILES or size > codec.MAX_U64:
        raise DecodeError(f"a tree of {files} files and {size} bytes is over the limits")


def _oid(data: bytes) -> ObjectId:
    if len(data) != 32:
        raise DecodeError(f"an id of {len(data)} bytes")
    return ObjectId(data)


def _key(entry: Entry) -> bytes:
    return entry.content if isinstance(entry, FileEntry) else entry.tree


def build_folder(entries: Sequence[Entry], put: Callable[[TreeId, bytes], object]) -> FolderEntry:
    """Write the nodes of one folder from its sorted entries; the result has an empty name."""

    def store(height: int, run: Sequence[Entry]) -> Entry:
        node = Tree(height, tuple(run))
        data = node.encode()
        oid = TreeId(hash_object(Kind.TREE, data))
        put(oid, data)
        return FolderEntry(run[-1].name if run else "", oid, node.files, node.size)

    root = nodes.grow(entries, _key, store)
    assert isinstance(root, FolderEntry)
    return root._replace(name="")


def build(listing: Mapping[str, FileEntry], put: Callable[[TreeId, bytes], object]) -> FolderEntry:
    """Write the trees of a dataset, children before parents (I3), and give its root."""
    if sum(map(len, listing)) > MAX_PATHS_CHARS:
        raise InvalidInputError(
            f"paths of more than {MAX_PATHS_CHARS} characters in all are over what a state can hold"
        )
    root: dict[str, Any] = {}
    for path, entry in listing.items():
        *folders, name = sections.to_tree_path(path).split("/")
        at = root
        for folder in folders:
            at = at.setdefault(folder, {})
        at[name] = entry
    return _build(root, put)


def _build(folder: dict[str, Any], put: Callable[[TreeId, bytes], object]) -> FolderEntry:
    entries: list[Entry] = [
        _build(value, put)._replace(name=name) if isinstance(value, dict) else value
        for name, value in folder.items()
    ]
    entries.sort(key=lambda entry: entry.name.encode())
    return build_folder(entries, put)


def entries(
    root: TreeId, get: Callable[[TreeId], bytes], stated: FolderEntry | None = None
) -> Iterator[Entry]:
    """The entries of one folder in order, whatever its height.

    Every node must hold as many files and bytes as whoever names it says. So each node that
    is read brings a file at least, and no few nodes can name each other into endless work.

    Args:
        root: the folder.
        get: reads a node.
        stated: what is said of the folder, if anything is.

    Raises:
        DecodeError: nodes that disagree with one another.
    """
    stack: list[tuple[TreeId, FolderEntry | None, int | None]] = [(root, stated, None)]
    last = b""
    while stack:
        oid, wanted, height = stack.pop()
        node = Tree.decode(get(oid))
        if height is not None and node.height != height:
            raise DecodeError(f"tree {oid.short} has height {node.height}, not {height}")
        if wanted is not None and (node.files, node.size) != (wanted.files, wanted.size):
            raise DecodeError(
                f"tree {oid.short} holds {node.files} files of {node.size} bytes, "
                f"not {wanted.files} of {wanted.size}"
            )
        if node.height:
            stack.extend(
                (e.tree, e, node.height - 1)
                for e in reversed(node.entries)
                if isinstance(e, FolderEntry)
            )
            continue
        for entry in node.entries:
            name = entry.name.encode()
            if name <= last:
                raise DecodeError("a folder whose entries are not sorted and unique")
            last = name
            yield entry


def walk(root: TreeId, get: Callable[[TreeId], bytes]) -> Iterator[tuple[str, FileEntry]]:
    """Every file below `root` with its tree path.

    Raises:
        DecodeError: malformed nodes, or more files or folders than a state may have.
    """
    stack: list[tuple[str, TreeId, FolderEntry | None]] = [("", root, None)]
    while stack:
        prefix, oid, stated = stack.pop()
        if prefix.count("/") > names.MAX_DEPTH:
            raise DecodeError(f"a tree deeper than {names.MAX_DEPTH} folders")
        for entry in entries(oid, get, stated):
            if isinstance(entry, FileEntry):
                yield prefix + entry.name, entry
            else:
                stack.append((f"{prefix}{entry.name}/", entry.tree, entry))


def flatten(root: TreeId, get: Callable[[TreeId], bytes]) -> Listing:
    """The listing of a dataset's root tree.

    Raises:
        DecodeError: a tree that `build` would not have made from its own files ([F-22]).
        UnsafeFileError: a file in a section that is not its own.
    """
    listing: Listing = {}
    chars = 0
    for path, entry in walk(root, get):
        chars += len(path)
        if chars > MAX_PATHS_CHARS:
            raise DecodeError(f"a tree whose paths have more than {MAX_PATHS_CHARS} characters")
        listing[names.check_path(sections.from_tree_path(path))] = entry
    if build(listing, lambda _oid, _data: None).tree != root:
        raise DecodeError(f"tree {root.short} is not built by the rules of format 1")
    return listing


def node_ids(root: TreeId, get: Callable[[TreeId], bytes]) -> Iterator[TreeId]:
    """Every tree node below and including `root`, parents first."""
    seen: set[TreeId] = set()
    stack = [root]
    while stack:
        oid = stack.pop()
        if oid in seen:
            continue
        seen.add(oid)
        yield oid
        stack.extend(e.tree for e in Tree.decode(get(oid)).entries if isinstance(e, FolderEntry))
