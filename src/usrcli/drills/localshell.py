"""Stands in for ssh where no sshd can be started: runs the remote command in a local shell.

`python -m usrcli.drills.localshell [ssh options] HOST COMMAND`. Everything behind the link
is real: another process, another environment, pipes in between.
"""

from __future__ import annotations

import os
import sys


def main(argv: list[str]) -> None:
    if "-G" in argv:  # how ssh is asked for its configuration: here there is none
        return
    os.execv("/bin/sh", ["sh", "-c", argv[-1]])


if __name__ == "__main__":
    main(sys.argv[1:])
