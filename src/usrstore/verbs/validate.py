"""validate: everything that is wrong with a dataset, at once; nothing is changed.

base rows → overlays → what lies beside → the registries it was written under
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from usrstore.dataset import overlaypaths
from usrstore.errors import ChangedWhileReadError, RegistryError
from usrstore.objects.names import DatasetId
from usrstore.objects.sections import PRIMARY_FILE
from usrstore.root import Root
from usrstore.verbs import reading

if TYPE_CHECKING:
    from usrstore.dataset.flaws import Flaws
    from usrstore.dataset.namespaces import Namespace
    from usrstore.dataset.overlay import OverlayFile

RegistryMode = Literal[
    "current", "frozen", "either", "namespace-current", "namespace-frozen", "namespace-either"
]
MODES: tuple[RegistryMode, ...] = (
    "current",
    "frozen",
    "either",
    "namespace-current",
    "namespace-frozen",
    "namespace-either",
)


@dataclass(frozen=True, slots=True)
class _Registries:
    """The registry of the root and those that are frozen in the dataset.

    Attributes:
        current: its namespaces; None if there is none that can be read.
        current_hash: of its canonical bytes.
        frozen: the same of the frozen ones, by hash.
    """

    current: dict[str, Namespace] | None
    current_hash: str | None
    frozen: dict[str, dict[str, Namespace]]


def validate(
    root: Root, dataset: DatasetId, *, mode: RegistryMode = "namespace-either", scratch: str
) -> Flaws:
    """Look at everything in a dataset.

    Args:
        root, dataset: which.
        mode: which registry its files must have been written under: that of the root now, one
            that is frozen in the dataset, or either; the whole registry, or only the
            namespaces that the dataset has, which another namespace does not change.
        scratch: an empty folder to spill into.

    Raises:
        DatasetNotFoundError: there is no such dataset.
        ChangedWhileReadError: it was written to meanwhile.
    """
    from usrstore.dataset import basecheck, besides, overlaycheck
    from usrstore.dataset.flaws import Flaws

    folder = root.check_dataset(dataset)
    reading.check_settled(root, dataset)
    before = _stamps(folder)
    flaws = Flaws()
    registries = _registries(root, folder, flaws)
    base = basecheck.check(folder, flaws, scratch=os.path.join(scratch, "base"))
    files = overlaycheck.check(
        folder, registries.current, flaws, base=base, scratch=os.path.join(scratch, "overlays")
    )
    besides.check(folder, dataset, flaws)
    if base is not None:
        _base_registry(base, registries, mode, flaws)
    for item in files:
        _overlay_registry(item, registries, mode, flaws)
    now = _stamps(folder)
    if any(now.get(path) != stamp for path, stamp in before.items()):  # new files do not matter
        raise ChangedWhileReadError(
            f"{folder} was written by another program while it was looked at",
            hint="run the same command again",
        )
    reading.check_settled(root, dataset)
    return flaws


def _stamps(folder: str) -> overlaypaths.Stamps:
    return overlaypaths.stamps(folder, [PRIMARY_FILE, *overlaypaths.listed(folder)])


def _registries(root: Root, folder: str, flaws: Flaws) -> _Registries:
    from usrstore.dataset import besides, namespaces

    current, digest = None, None
    data = root.registry()
    if data is None:
        flaws.add("registry-missing", "registry.yaml", f"{root.path} has none")
    else:
        try:
            current = namespaces.load(data, root.registry_path)
            digest = namespaces.registry_hash(data, root.registry_path)
        except RegistryError as exc:
            flaws.add("registry-bad", "registry.yaml", exc.message)
    frozen = {}
    for path, name, content in besides.frozen(folder):
        try:
            frozen[name] = namespaces.load(content, path)
        except RegistryError as exc:
            flaws.add("frozen-registry", path, exc.message)
    return _Registries(current, digest, frozen)


def _base_registry(base: object, known: _Registries, mode: RegistryMode, flaws: Flaws) -> None:
    """The registry that the base was last written under, and its materialized columns."""
    from usrstore.dataset import schema

    metadata = getattr(base, "metadata", None) or {}
    stated = metadata.get(schema.META_REGISTRY_HASH.encode())
    if not mode.startswith("namespace-"):
        text = stated.decode(errors="replace") if stated else None
        _whole_registry(PRIMARY_FILE, text, known, mode, flaws)
    for name, kind in _materialized(base):
        _materialized_column(name, kind, known, flaws)


def _materialized(base: object) -> Iterator[tuple[str, object]]:
    for field in base:  # type: ignore[attr-defined]
        if "__" in field.name:
            yield field.name, field.type


def _materialized_column(name: str, kind: object, known: _Registries, flaws: Flaws) -> None:
    from usrstore.dataset import types

    namespace = name.partition("__")[0]
    if known.current is None or namespace == "usr":
        return
    found = known.current.get(namespace)
    column = found.column(name) if found else None
    if column is None:
        message = f"the column {name} is not registered"
        flaws.add("base-unregistered", PRIMARY_FILE, message)
        return
    try:
        same = types.of_arrow(kind) == types.parse(column.type)
    except RegistryError:
        same = False
    if not same:
        message = f"the column {name} is {kind}, and is registered as {column.type}"
        flaws.add("base-type", PRIMARY_FILE, message)


def _whole_registry(
    path: str, stated: str | None, known: _Registries, mode: RegistryMode, flaws: Flaws
) -> None:
    if stated is None:
        flaws.add("registry-unstated", path, "it does not say which registry it was written under")
        return
    current, frozen = stated == known.current_hash, stated in known.frozen
    if not _passes(mode, current=current, frozen=frozen):
        message = f"it was written under the registry {stated[:12]}…, {_failed(mode)}"
        flaws.add("registry-other", path, message)


def _overlay_registry(
    item: OverlayFile, known: _Registries, mode: RegistryMode, flaws: Flaws
) -> None:
    if item.namespace == "usr":
        return
    if not mode.startswith("namespace-"):
        _whole_registry(item.path, item.registry_hash, known, mode, flaws)
        return
    if item.contract_hash is None:
        return  # older writers do not say; its columns are held against the registry anyway
    current = item.contract_hash in _contracts(item.namespace, [known.current or {}])
    frozen = item.contract_hash in _contracts(item.namespace, known.frozen.values())
    if not _passes(mode, current=current, frozen=frozen):
        message = f"the namespace {item.namespace} meant something else when it was written: "
        flaws.add("contract-other", item.path, message + _failed(mode))


def _contracts(name: str, registries: Iterable[dict[str, Namespace]]) -> set[str]:
    from usrstore.dataset import namespaces

    return {namespaces.contract_hash(r[name]) for r in registries if name in r}


def _passes(mode: RegistryMode, *, current: bool, frozen: bool) -> bool:
    kind = mode.removeprefix("namespace-")
    return {"current": current, "frozen": frozen, "either": current or frozen}[kind]


def _failed(mode: RegistryMode) -> str:
    return {
        "current": "which is not that of the root now",
        "frozen": "which is not frozen in `_registry/`",
        "either": "which is neither that of the root now nor frozen in `_registry/`",
    }[mode.removeprefix("namespace-")]
