"""Whom this root believes: its settings, its signers, and what it remembers of others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import cast

from usrstore.errors import (
    ConfigError,
    ForkError,
    GraftError,
    IncompleteError,
    NotFoundError,
    ObjectNotFoundError,
    RollbackError,
    StaleError,
)
from usrstore.objects.ids import Kind, ManifestId
from usrstore.objects.manifest import manifest_id
from usrstore.odb import durable
from usrstore.remote.peer import Compared
from usrstore.root import Root, Who
from usrstore.trust import policy as trust
from usrstore.trust.policy import Mode, Policy, Verified
from usrstore.trust.signers import AllowedSigner, AllowedSigners
from usrstore.trust.sshsig import PublicKey
from usrstore.verbs import memory
from usrstore.verbs.memory import Mark
from usrstore.verbs.retention import parse_duration
from usrstore.verbs.site import Site

_SIGNERS_FILE = "allowed_signers"


def mode_of(root: Root, asked: Mode | None) -> Mode:
    """The trust mode: what was asked for, else what `.usr/config` says, else tofu.

    Raises:
        ConfigError: the file names an unknown mode.
    """
    if asked is not None:
        return asked
    section = root.config.get("trust", {})
    mode = section.get("mode", "tofu") if isinstance(section, dict) else "tofu"
    if mode not in ("strict", "tofu", "none"):
        raise ConfigError(
            f"{root.settings_folder}/config: trust.mode {mode!r} is none of strict, tofu, none"
        )
    return cast("Mode", mode)


def signers_path(root: Root) -> str:
    return os.path.join(root.settings_folder, _SIGNERS_FILE)


def allowed_signers(root: Root) -> AllowedSigners:
    """Raises: ConfigError, naming the file and the line."""
    path = signers_path(root)
    try:
        with open(path, encoding="utf-8") as file:
            return AllowedSigners.parse(file.read())
    except FileNotFoundError:
        return AllowedSigners.parse("")
    except ConfigError as exc:
        line = exc.message.partition(": ")[0].removeprefix("allowed signers, ")
        raise ConfigError(
            f"{exc.message}; nothing was changed",
            hint=f"mend {line} of {path} ({exc.hint})",
            code=exc.code,
        ) from exc


def add_signer(root: Root, name: str, key: PublicKey) -> None:
    root.create_store()
    text = allowed_signers(root).with_signer(name, key).text()
    durable.replace(signers_path(root), text.encode())


def remove_signer(root: Root, text: str) -> list[AllowedSigner]:
    """Take every line of a signer out, by name or by fingerprint.

    Raises:
        NotFoundError: no line is theirs.
    """
    signers = allowed_signers(root)
    gone = [s for s in signers.signers if text in (*s.principals, s.key.fingerprint)]
    if not gone:
        raise NotFoundError(
            f"no signer {text!r} is listed in {root.path}; nothing was changed",
            hint="usr trust list",
            code="signer-not-found",
        )
    durable.replace(signers_path(root), signers.without(gone).text().encode())
    return gone


def policy_for(root: Root, who: Who, place: str, dataset: str, mode: Mode) -> Policy:
    """Whom to believe of a dataset that comes from `place`; '' stands for anywhere."""
    return Policy(
        mode=mode,
        allowed=allowed_signers(root),
        own=who.own_keys(),
        pinned=memory.pinned(root, place, dataset),
        signed=memory.signed(root, place, dataset),
    )


def check_incoming(
    site: Site,
    manifests: Mapping[ManifestId, bytes],
    head: ManifestId,
    current: ManifestId | None,
    *,
    place: str,
    mode: Mode,
) -> Verified:
    """Believe a chain of manifests that came from elsewhere, and put it into the overlay.

    Args:
        site: the dataset it is for.
        manifests: the new ones, by the ids they were announced under.
        head: the newest.
        current: what it is to replace; it must descend from that, unless that is None.
        place: where it came from: a remote's name, or `push`.
        mode: the trust mode.

    Raises:
        TrustError: see `trust.policy`; GraftError if it does not descend from `current`.
        IncompleteError: a parent is missing.
    """
    for oid, data in manifests.items():
        if manifest_id(data) != oid:
            raise IncompleteError(f"manifest {oid.short} arrived damaged")
        site.overlay.put(Kind.MANIFEST, oid, data)
    try:
        data = site.overlay.get(Kind.MANIFEST, head)
        policy = policy_for(site.root, site.who, place, site.dataset, mode)
        verified = trust.believe(data, dataset=site.dataset, policy=policy)
        chain = site.ancestry(head)
    except ObjectNotFoundError as exc:
        raise IncompleteError(
            f"the history of {site.dataset} is incomplete: {exc.message}"
        ) from exc
    for oid, manifest in chain.items():
        if manifest.dataset != site.dataset:
            raise GraftError(f"the history of {site.dataset} holds a state of {manifest.dataset}")
        above = max((chain[parent].sequence for parent in manifest.parents), default=0)
        if manifest.sequence != above + 1:
            raise GraftError(f"manifest {oid.short} has a sequence its parents do not allow")
    if current is not None and current not in chain:
        raise GraftError(
            f"manifest {head.short} of {site.dataset} does not descend from {current.short}, "
            "which it is to replace; nothing was changed",
            hint="pull first, then push again",
        )
    return verified


def check_progress(site: Site, remote: str, answer: Compared, since: Mark) -> None:
    """A remote may only go on from where it had been seen before it was asked.

    Raises:
        RollbackError: it went back, or lost its history.
        ForkError: it has another history than the one that was seen.
    """
    seen, before = since
    accept = (
        "if that was done on purpose (a backup restored, a store remade): usr trust accept "
        f"{remote} {site.dataset}, or --accept-rollback once"
    )
    if seen is not None and answer.seen is False:
        number = answer.state.number if answer.state else 0
        if number < seen.number:
            raise RollbackError(
                f"the remote {remote} went back: its newest state is {number}, but "
                f"{seen.number} was seen before; nothing was changed",
                hint=accept,
            )
        raise ForkError(
            f"the remote {remote} has another history: its state {seen.number} is not the one "
            "that was seen before; nothing was changed",
            hint=accept,
        )
    if before is None or answer.head == before:
        return
    if answer.head is None:
        if answer.exists:
            raise RollbackError(
                f"the remote {remote} lost the history of {site.dataset}; nothing was changed",
                hint=accept,
            )
        return
    for oid, data in answer.manifests.items():
        site.overlay.put(Kind.MANIFEST, oid, data)
    if before in site.ancestry(answer.head):
        return
    if site.overlay.has(before) and answer.head in site.ancestry(before):
        raise RollbackError(
            f"the remote {remote} went back: {site.dataset} is at {answer.head.short}, but "
            f"its successor {before.short} was seen before; nothing was changed",
            hint=accept,
        )
    raise ForkError(
        f"the remote {remote} has another history of {site.dataset}: {answer.head.short} does "
        f"not descend from {before.short}, which was seen before; nothing was changed",
        hint=accept,
    )


def check_age(site: Site, remote: str, answer: Compared) -> str | None:
    """What to tell of a remote whose newest state has not moved for longer than it should.

    A remote that withholds what is newer cannot be told from one where nothing happens; only
    the person knows how long nothing may happen. `[trust] max_age` says so, per root, and
    `[trust] stale = "refuse"` makes it an error.

    Raises:
        StaleError: it is refused here.
    """
    section = site.root.config.get("trust", {})
    limit = section.get("max_age") if isinstance(section, dict) else None
    if limit is None or answer.head is None or not site.overlay.has(answer.head):
        return None
    age_s = (site.who.now_us() - site.manifest(answer.head).time_us) / 1e6
    if age_s <= parse_duration(str(limit)):
        return None
    text = (
        f"the newest state of {site.dataset} at {remote} was signed {age_s / 86400:.0f} days ago, "
        f"more than {limit}: nothing happens there, or what is newer is withheld"
    )
    if section.get("stale", "warn") == "refuse":
        raise StaleError(
            f"{text}; nothing was changed",
            hint="ask whoever works there; [trust] max_age in .usr/config says how old is too old",
        )
    return f"stale: {text}"
