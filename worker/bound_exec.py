"""Run a program that is ended when its parent ends, however that ends (Linux): `bound_exec.py PARENT_PID PROGRAM ...`.

The kernel sends SIGTERM to the program when the thread that started it is gone, also after a kill -9, where no code of
the parent could do it. It is asked here, between fork and exec, and not in a `preexec_fn`: the parent has threads of
the SDK, and Python code in a forked copy of a threaded process may deadlock. Standard library only; not imported.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Bind to the parent, then become the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent ended before its program could start")
    os.execv(program[0], program)  # noqa: S606 - an argument vector that worker.server_process has fixed; no shell


if __name__ == "__main__":
    main()
