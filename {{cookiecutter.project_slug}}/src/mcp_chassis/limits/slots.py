"""How many calls run at once, of one tool and of all together. One more is told so at once: nothing piles up."""

import threading
from contextvars import ContextVar


class Slots:
    """Counts what runs.

    Args:
        most: calls of all tools together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: dict[str, int] = {}
        self._all = 0
        self.lock = threading.Lock()

    def take(self, name: str, most: int) -> "Slot | None":
        """Take a slot for the tool `name`, of which `most` may run at once, if there is one."""
        with self.lock:
            running = self._running.get(name, 0)
            if running >= most or self._all >= self._most:
                return None
            self._running[name] = running + 1
            self._all += 1
            return Slot(name, self)

    def give_back(self, name: str) -> None:
        """Count one call less. Whoever calls this holds the lock."""
        self._running[name] -= 1
        self._all -= 1


class Slot:
    """One running call.

    A thread cannot be stopped. So a blocking tool keeps its slot until its thread ends, which may be long after its
    caller was told of the deadline; and a thread that comes to run after the caller has left does nothing.
    """

    def __init__(self, name: str, slots: Slots) -> None:
        self._name = name
        self._slots = slots
        self._state = "taken"

    def keep(self) -> bool:
        """Let the calling thread own the slot; False if it is too late."""
        with self._slots.lock:
            if self._state != "taken":
                return False
            self._state = "kept"
            return True

    def release(self, *, by_thread: bool = False) -> None:
        """Give the slot back, once, by whoever owns it. May be called from any thread."""
        with self._slots.lock:
            if self._state == ("kept" if by_thread else "taken"):
                self._state = "released"
                self._slots.give_back(self._name)


current_slot: ContextVar[Slot] = ContextVar("current_slot")
