"""Slots: how many calls run at once."""

from mcp_chassis.limits.slots import Slots


def test_a_tool_gets_as_many_slots_as_it_may_have() -> None:
    slots = Slots(10)
    first, second = slots.take("a", 2), slots.take("a", 2)
    assert first is not None
    assert second is not None
    assert slots.take("a", 2) is None
    assert slots.take("b", 2) is not None, "another tool is not affected"


def test_all_tools_together_get_no_more_than_the_server_has() -> None:
    slots = Slots(2)
    assert slots.take("a", 5) is not None
    assert slots.take("b", 5) is not None
    assert slots.take("c", 5) is None


def test_a_slot_that_is_given_back_is_free_again_and_only_once() -> None:
    slots = Slots(2)
    slot = slots.take("a", 1)
    assert slot is not None
    slot.release()
    slot.release()
    assert slots.take("a", 1) is not None
    assert slots.take("a", 1) is None


def test_a_slot_that_a_thread_keeps_is_given_back_by_the_thread_only() -> None:
    slots = Slots(2)
    slot = slots.take("a", 1)
    assert slot is not None
    assert slot.keep()
    slot.release()
    assert slots.take("a", 1) is None, "the thread still runs"
    slot.release(by_thread=True)
    assert slots.take("a", 1) is not None


def test_a_thread_that_comes_too_late_does_not_get_the_slot() -> None:
    slot = Slots(1).take("a", 1)
    assert slot is not None
    slot.release()
    assert not slot.keep()
