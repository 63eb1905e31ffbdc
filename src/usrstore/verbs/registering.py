"""namespace register: what columns a namespace has, agreed once for the whole root."""

from __future__ import annotations

import dataclasses

from usrstore.dataset import namespaces, registry
from usrstore.dataset.namespaces import Namespace
from usrstore.errors import ConflictError, NotFoundError
from usrstore.root import Root


def known(root: Root) -> dict[str, Namespace]:
    """The namespaces of a root; the initial ones where it has no registry.

    Raises:
        RegistryError: the registry is not in order.
    """
    data = root.registry()
    return namespaces.load(registry.initial() if data is None else data, root.registry_path)


def find(root: Root, name: str) -> Namespace:
    """Raises: NotFoundError: no such namespace."""
    have = known(root)
    if name not in have:
        raise NotFoundError(
            f"the namespace {name} is not registered in {root.registry_path}",
            hint=f"this root has: {', '.join(sorted(have))}. "
            f"`usr namespace register {name} --columns 'column:type,…'` adds it",
            code="namespace-not-found",
        )
    return have[name]


def register(root: Root, namespace: Namespace, *, overwrite: bool, timeout_s: float = 30.0) -> bool:
    """Add a namespace; False if it is there already and says the same.

    However many processes do so at once, none loses what another has added.

    Args:
        root: where.
        namespace: as `namespaces.make` gave it.
        overwrite: let it replace one of the same name with another meaning.
        timeout_s: how long to wait for other changes of the registry.

    Raises:
        ConflictError: the name has another meaning, and `overwrite` does not say that it may change.
        RegistryError: the registry is not in order.
    """
    with root.changing_registry(timeout_s=timeout_s):
        have = known(root)
        old = have.get(namespace.name)
        if old is not None and not overwrite:
            if old.columns != namespace.columns:
                raise ConflictError(
                    f"the namespace {namespace.name} is registered with other columns: "
                    f"{_shown(old)}; nothing was changed",
                    hint="give another name, or --overwrite if no dataset uses it yet",
                    code="namespace-exists",
                )
            namespace = dataclasses.replace(
                old,
                owner=namespace.owner or old.owner,
                description=namespace.description or old.description,
            )
        if old == namespace and root.registry() is not None:
            return False
        have[namespace.name] = namespace
        bodies = {name: entry.to_yaml() for name, entry in have.items()}
        root.write_registry(registry.text(bodies))
        return True


def _shown(namespace: Namespace) -> str:
    return ",".join(f"{column.name}:{column.type}" for column in namespace.columns)
