"""Runs a module like ``python -m``, and ends the process when the one that started it dies.

    python -m hmpc_ros.ros.tether hmpc_ros.ros.simulator_node --ros-args ...
    python -m hmpc_ros.ros.tether --program rviz2 -d view.rviz

The tether is standard input: the starting process holds the other end of the pipe open and never
writes. However it ends, also by SIGKILL, the kernel closes that end, and what is read here is the
end of file. Unlike PR_SET_PDEATHSIG this needs no code between fork and exec, has no race with a
parent that is already dead, outlives the re-exec of the ROS wheels and the thread that forked, and
works on every POSIX system.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import threading
import time

# What a node gets to stop by itself before it is ended the hard way.
GRACE = 4.0  # s


def _hold(fd: int) -> None:
    """Wait for the end of file on the tether, then stop this process and what it started."""
    while True:
        try:
            if not os.read(fd, 1024):
                break
        except InterruptedError:
            continue
        except OSError:
            break
    # A node has its own process group (see the runner), with the compiler it may have started.
    alone = os.getpgrp() == os.getpid()
    _signal(signal.SIGTERM, alone)
    time.sleep(GRACE)
    _signal(signal.SIGKILL, alone)


def _signal(number: signal.Signals, alone: bool) -> None:
    if alone:
        os.killpg(os.getpgrp(), number)
    else:
        os.kill(os.getpid(), number)


def main() -> None:
    """Tether this process, then run the module named first as ``__main__``, or a program."""
    if len(sys.argv) < 2:
        raise SystemExit('usage: python -m hmpc_ros.ros.tether [--program] NAME [ARGUMENTS...]')
    # Keep the pipe, and give the module an empty standard input to read: the tether is ours.
    fd = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    threading.Thread(target=_hold, args=(fd,), name='tether', daemon=True).start()
    if sys.argv[1] == '--program':
        raise SystemExit(subprocess.call(sys.argv[2:]))
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)


if __name__ == '__main__':
    main()
