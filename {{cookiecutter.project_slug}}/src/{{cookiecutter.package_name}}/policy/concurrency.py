"""How many calls run at once, of one tool and of all together. One more is told so at once: nothing piles up."""

import threading
from collections import Counter
from contextvars import ContextVar


class Slots:
    """Counts what runs.

    Args:
        most: calls of all tools together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, name: str, most: int) -> "Slot | None":
        """Take a slot for the tool `name`, of which `most` may run at once, if there is one."""
        with self._lock:
            if self._running[name] >= most or self._running.total() >= self._most:
                return None
            self._running[name] += 1
            return Slot(name, self._running, self._lock)


class Slot:
    """One running call.

    A thread cannot be stopped. So a blocking tool keeps its slot until its thread ends, which may be long after its
    caller was told of the deadline; and a thread that comes to run after the caller has left does nothing.
    """

    def __init__(self, name: str, running: Counter[str], lock: threading.Lock) -> None:
        self._name = name
        self._running = running
        self._lock = lock
        self._state = "taken"

    def keep(self) -> bool:
        """Let the calling thread own the slot; False if it is too late."""
        with self._lock:
            if self._state != "taken":
                return False
            self._state = "kept"
            return True

    def release(self, *, by_thread: bool = False) -> None:
        """Give the slot back, once, by whoever owns it. May be called from any thread."""
        with self._lock:
            if self._state == ("kept" if by_thread else "taken"):
                self._state = "released"
                self._running[self._name] -= 1


current_slot: ContextVar[Slot] = ContextVar("current_slot")
