"""Keys and people. Every key is made anew: no test depends on one."""

from __future__ import annotations

import time
from dataclasses import dataclass

from usrstore.root import Who
from usrstore.trust import keys
from usrstore.trust.keys import KeySigner


def make_signer() -> KeySigner:
    return keys.load_private_key(keys.generate()[0])


ALICE, BOB, MALLORY = make_signer(), make_signer(), make_signer()


@dataclass
class Clock:
    """Moves on by a second whenever it is asked, so that no two times are equal."""

    now_us: int = 1_700_000_000_000_000

    def __call__(self) -> int:
        self.now_us += 1_000_000
        return self.now_us


def make_who(name="alice", signer=ALICE, *, own=None, clock=None):
    """Someone who acts; `own` are the signers whose keys are theirs."""
    own = [signer] if own is None else own
    fingerprints = frozenset(key.public_key.fingerprint for key in own if key is not None)
    clock = clock or (lambda: time.time_ns() // 1000)
    return Who(name, "lab", "test", clock, lambda: signer, lambda: fingerprints)
