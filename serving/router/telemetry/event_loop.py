"""Measures how busy an event loop is."""

import threading
import time
from pathlib import Path


class EventLoopTime:
    """The time for which the thread that makes this object has been busy: it ran, or could have run
    and waited for a CPU. An event loop that is idle sleeps, and waits for nothing but events."""

    def __init__(self) -> None:
        thread_id = threading.get_native_id()
        self._schedstat = Path(f"/proc/self/task/{thread_id}/schedstat")
        self._cpu_clock = time.pthread_getcpuclockid(threading.get_ident())

    def busy_s(self) -> float:
        """Returns the seconds since the thread began. Where the kernel does not say how long it
        waited, only those that it ran."""
        try:
            ran_ns, waited_ns, _ = self._schedstat.read_text().split()
        except (OSError, ValueError):
            return time.clock_gettime(self._cpu_clock)
        return (int(ran_ns) + int(waited_ns)) / 1e9
