"""Guarded tools, made of plain functions."""

import functools
import threading
from typing import Annotated, Any

import anyio
import anyio.to_thread
import pytest
from pydantic import Field

from mcp_chassis import tool
from mcp_chassis.calls.tools import guarded_tool
from mcp_chassis.limits.slots import Slots, current_slot

from ..support.running import wait_until

pytestmark = pytest.mark.anyio


@tool(title="Count", idempotent=True, destructive=False, open_world=False, calls_per_minute=7)
async def count(number: int) -> int:
    """Count."""
    return number


@tool(read_only=True)
def blocking(number: int) -> str:
    """Block."""
    return f"{number} in {threading.current_thread().name}"


def test_the_annotations_follow_from_the_policy() -> None:
    annotations = guarded_tool(count).tool.annotations
    assert annotations is not None
    assert annotations.model_dump() == {
        "title": "Count",
        "read_only_hint": False,
        "destructive_hint": False,
        "idempotent_hint": True,
        "open_world_hint": False,
    }


def test_the_schema_is_closed_and_the_arguments_are_strict() -> None:
    guarded = guarded_tool(count)
    assert guarded.tool.parameters["additionalProperties"] is False
    with pytest.raises(ValueError, match="valid integer"):
        guarded.tool.fn_metadata.validate_arguments({"number": "7"})


@pytest.mark.filterwarnings("ignore")
def test_a_parameter_named_as_a_property_of_a_model_is_refused() -> None:
    """The tool would get the property in place of what the caller sent, and the user confirmed."""

    @tool(read_only=True)
    def car(model_extra: str) -> str:
        """Return the model."""
        return model_extra

    @tool(read_only=True)
    def cart(model_fields_set: str = "all") -> str:
        """Return the model."""
        return model_fields_set

    for function, name in ((car, "model_extra"), (cart, "model_fields_set")):
        with pytest.raises(TypeError, match=f"cannot be served: rename {name}"):
            guarded_tool(function)


def test_a_parameter_named_as_a_method_of_a_model_reaches_the_tool() -> None:
    @tool(read_only=True)
    def car(schema: str, copy: str, model_name: str) -> str:
        """Return the model."""
        return schema + copy + model_name

    given = {"schema": "a", "copy": "b", "model_name": "c"}
    assert guarded_tool(car).tool.fn_metadata.validate_arguments(given) == given


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (Annotated[int, Field(gt=1.5)], "number: ValueError: 'gt' must be coercible to an integer"),
        (Annotated[int, Field(multiple_of=-3)], "number: ValueError: 'multiple_of' must be a finite number greater"),
        (Annotated[str, Field(pattern="{a}")], "number: error: repetition operator missing expression"),
        (Annotated[str, Field(pattern="[z-a]")], "number: error: invalid character class range"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_with_its_reason(annotation: Any, reason: str) -> None:
    def count(number: Any) -> None:
        """Count."""

    count.__annotations__["number"] = annotation
    with pytest.raises(TypeError, match=f"the tool count cannot be served: {reason}"):
        guarded_tool(tool(read_only=True)(count))


def test_a_limit_is_made_only_where_one_is_declared() -> None:
    limiter = guarded_tool(count).limiter
    assert limiter is not None
    assert limiter.per_minute == 7
    assert guarded_tool(blocking).limiter is None


def test_blocking_work_is_recognised_also_when_it_is_wrapped() -> None:
    @tool(read_only=True)
    @functools.wraps(count)
    def wrapped(*arguments: Any) -> Any:
        return count(*arguments)

    assert guarded_tool(blocking).blocking
    assert not guarded_tool(count).blocking
    assert not guarded_tool(wrapped).blocking


def test_what_is_not_declared_is_refused() -> None:
    with pytest.raises(TypeError, match="write @tool"):
        guarded_tool(lambda: "")


async def test_blocking_work_runs_in_a_thread_and_gives_the_slot_back() -> None:
    slots = Slots(1)
    slot = slots.take("blocking", 1)
    assert slot is not None
    current_slot.set(slot)
    said = await guarded_tool(blocking).tool.fn(number=7)
    assert said.startswith("7 in ")
    assert threading.current_thread().name not in said
    assert slots.take("blocking", 1) is not None


async def test_blocking_work_keeps_its_slot_after_its_caller_has_left() -> None:
    go_on, slots = threading.Event(), Slots(1)

    @tool(read_only=True)
    def wait() -> None:
        go_on.wait(5)

    slot = slots.take("wait", 1)
    assert slot is not None
    current_slot.set(slot)
    with anyio.move_on_after(0.05):
        await guarded_tool(wait).tool.fn()
    slot.release()
    assert slots.take("wait", 1) is None
    go_on.set()
    await anyio.to_thread.run_sync(lambda: wait_until(lambda: slots.take("wait", 1) is not None))
