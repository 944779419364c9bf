"""Become a command that is told to stop when its parent dies, under another user if asked.

Started by path, as ``python -I -S guard.py SIGNAL UID GID PARENT COMMAND ARGUMENT…``; UID -1 keeps the user. This is a
process of its own rather than a ``preexec_fn``, which may deadlock in a process that has threads.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def main() -> None:
    """Change the user, ask for the signal, and become the command."""
    death_signal, uid, gid, parent = (int(word) for word in sys.argv[1:5])
    command = sys.argv[5:]
    if uid != -1:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After the change of user: changing it clears the setting.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent:
        sys.exit("the parent ended before its server had started")
    try:
        os.execv(command[0], command)  # noqa: S606  # becoming the command is the purpose
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
