"""How many calls run at the same time, of one tool and in all. Further calls are refused at once; there is no queue."""

import threading
from collections import Counter
from contextvars import ContextVar
from typing import Literal


class Slots:
    """Counts running calls.

    Args:
        max_calls: calls of all tools together.
    """

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self.running: Counter[str] = Counter()
        self.lock = threading.Lock()

    def take(self, name: str, max_calls: int) -> "Slot | None":
        """Return a slot for the tool `name`, of which `max_calls` may run at the same time; None if there is none."""
        with self.lock:
            if self.running[name] >= max_calls or sum(self.running.values()) >= self._max_calls:
                return None
            self.running[name] += 1
        return Slot(name, self)


class Slot:
    """One running call.

    A thread cannot be stopped. So a blocking tool keeps its slot until its thread ends, which may be long after the
    deadline of the call, and a thread that starts after the caller has disconnected does nothing.
    """

    def __init__(self, name: str, slots: Slots) -> None:
        self._name = name
        self._slots = slots
        self._owner: Literal["call", "thread"] | None = "call"

    def keep(self) -> bool:
        """Let the calling thread own the slot; False if the call has already released it."""
        with self._slots.lock:
            is_running = self._owner == "call"
            if is_running:
                self._owner = "thread"
            return is_running

    def release(self, *, by_thread: bool = False) -> None:
        """Give the slot back, once, if the caller owns it. May be called from any thread."""
        with self._slots.lock:
            if self._owner == ("thread" if by_thread else "call"):
                self._owner = None
                self._slots.running[self._name] -= 1


current_slot: ContextVar[Slot] = ContextVar("current_slot")
