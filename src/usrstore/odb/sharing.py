"""Stores that a group shares: what is made in its folders is the group's, whatever the umask.

A folder that is setgid and group-writable says so, as git's `core.sharedRepository=group`
does; there is no other setting. `durable` makes everything through here.
"""

from __future__ import annotations

import contextlib
import os
import stat


def is_shared(folder: str) -> bool:
    """Whether a folder says that what is made in it belongs to its group: setgid and group-writable.

    As git's `core.sharedRepository=group`; a umask would say otherwise for each of its members.
    """
    try:
        mode = os.stat(folder or ".").st_mode
    except OSError:
        return False
    return bool(mode & stat.S_ISGID and mode & stat.S_IWGRP)


def make_folder(path: str, mode: int) -> None:
    """os.mkdir, whose new folder is the group's where the one around it is."""
    os.mkdir(path, mode)
    if is_shared(os.path.dirname(path)):
        made = stat.S_IMODE(os.stat(path).st_mode)
        os.chmod(path, made | stat.S_ISGID | stat.S_IRWXG)  # noqa: S103  the group's, as asked


def open_file(path: str, flags: int, mode: int) -> int:
    """os.open, whose new file the group may read and write where its folder is the group's.

    A file that is made for its owner alone (0600) stays so.
    """
    fresh = bool(flags & os.O_CREAT) and (bool(flags & os.O_EXCL) or not os.path.lexists(path))
    fd = os.open(path, flags, mode)
    if fresh and mode & stat.S_IRWXG and is_shared(os.path.dirname(path)):
        made = stat.S_IMODE(os.fstat(fd).st_mode)
        with contextlib.suppress(PermissionError):  # another of the group made it just now
            os.fchmod(fd, made | stat.S_IRGRP | stat.S_IWGRP)
    return fd
