"""Two values side by side: what is equal at both ends is shortened, what differs stays whole."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

_NEAR = 12  # characters of what is equal that are shown beside what differs
_FLAT = str.maketrans({"\n": "\\n", "\r": "\\r", "\t": "\\t"})


class Contrast(NamedTuple):
    """`head` + `old` + `tail` became `head` + `new` + `tail`."""

    head: str
    old: str
    new: str
    tail: str

    @property
    def plain(self) -> bool:
        """Whether nothing was in common, so that the values stand by themselves."""
        return not self.head and not self.tail


def text(value: Any) -> str:
    """A value on one line; control characters are seen, not obeyed."""
    if value is None:
        return "null"
    found = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(c if c.isprintable() else "�" for c in found.translate(_FLAT))


def cut(shown: str, width: int) -> str:
    """A text of at most `width` characters that says how long it was."""
    if len(shown) <= width:
        return shown
    more = f"… ({len(shown)} characters)"
    return f"{shown[: max(width - len(more), 1)]}{more}"


def contrast(old: Any, new: Any, width: int) -> Contrast:
    """How one value became another, in about `width` characters each."""
    one, two = text(old), text(new)
    if not isinstance(old, str | list | dict) or not isinstance(new, str | list | dict):
        return Contrast("", cut(one, width), cut(two, width), "")
    if max(len(one), len(two)) <= width and min(len(one), len(two)) < _NEAR:
        return Contrast("", one, two, "")
    most = min(len(one), len(two))
    ahead = 0
    while ahead < most and one[ahead] == two[ahead]:
        ahead += 1
    behind = 0
    while behind < most - ahead and one[-1 - behind] == two[-1 - behind]:
        behind += 1
    if ahead + behind < _NEAR // 2:
        return Contrast("", cut(one, width), cut(two, width), "")
    head, tail = one[:ahead], one[len(one) - behind :]
    if len(head) > _NEAR * 2:
        head = f"…{head[-_NEAR:]}"
    if len(tail) > _NEAR * 2:
        tail = f"{tail[:_NEAR]}…"
    return Contrast(
        head,
        cut(one[ahead : len(one) - behind], width),
        cut(two[ahead : len(two) - behind], width),
        tail,
    )
