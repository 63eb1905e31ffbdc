"""usrstore: a content-addressed manifest store for scientific datasets.

`open` a root, take a dataset by its id, and `commit`, `diff`, `pull` or `push` it. The names
below are the public interface; a test freezes them. They are imported when they are used, so
that `import usrstore` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usrstore.errors import (
        ConflictError,
        IntegrityError,
        InvalidInputError,
        NotFoundError,
        RemoteError,
        StorageError,
        TrustError,
        UnsupportedError,
        UsrError,
    )
    from usrstore.objects.compare import Comparison
    from usrstore.objects.ids import ContentHash, ManifestId, ObjectId, TreeId
    from usrstore.objects.manifest import Manifest
    from usrstore.objects.progress import Emit, Event
    from usrstore.objects.sections import Section
    from usrstore.remote.peer import Checks, Peer
    from usrstore.remote.profiles import Profile
    from usrstore.root import Who
    from usrstore.store import DatasetHandle, Store, connect, open, who  # noqa: A004
    from usrstore.trust.keys import Signer, generate, load_private_key
    from usrstore.verbs.audit import SyncResult
    from usrstore.verbs.options import Options

_HOME = {
    **dict.fromkeys(
        (
            "ConflictError", "IntegrityError", "InvalidInputError", "NotFoundError",
            "RemoteError", "StorageError", "TrustError", "UnsupportedError", "UsrError",
        ),
        "errors",
    ),
    "Comparison": "objects.compare",
    **dict.fromkeys(("ContentHash", "ManifestId", "ObjectId", "TreeId"), "objects.ids"),
    "Manifest": "objects.manifest",
    **dict.fromkeys(("Emit", "Event"), "objects.progress"),
    "Section": "objects.sections",
    **dict.fromkeys(("Checks", "Peer"), "remote.peer"),
    "Profile": "remote.profiles",
    "Who": "root",
    **dict.fromkeys(("DatasetHandle", "Store", "connect", "open", "who"), "store"),
    **dict.fromkeys(("Signer", "generate", "load_private_key"), "trust.keys"),
    "SyncResult": "verbs.audit",
    "Options": "verbs.options",
}  # fmt: skip

__all__ = [
    "Checks",
    "Comparison",
    "ConflictError",
    "ContentHash",
    "DatasetHandle",
    "Emit",
    "Event",
    "IntegrityError",
    "InvalidInputError",
    "Manifest",
    "ManifestId",
    "NotFoundError",
    "ObjectId",
    "Options",
    "Peer",
    "Profile",
    "RemoteError",
    "Section",
    "Signer",
    "StorageError",
    "Store",
    "SyncResult",
    "TreeId",
    "TrustError",
    "UnsupportedError",
    "UsrError",
    "Who",
    "connect",
    "generate",
    "load_private_key",
    "open",
    "who",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'usrstore' has no attribute {name!r}")
    return getattr(import_module(f"usrstore.{_HOME[name]}"), name)
