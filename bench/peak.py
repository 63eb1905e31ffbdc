"""Run a program with our own input and output, and write down the most memory it held, in MB.

python -I -S peak.py FILE PROGRAM ARGUMENTS…
"""

import os
import sys

child = os.fork()
if not child:
    os.execv(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w", encoding="utf-8") as file:
    file.write(f"{usage.ru_maxrss / 1024:.1f}")
sys.exit(os.waitstatus_to_exitcode(status))
