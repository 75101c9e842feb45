"""An item of an API once more, as its dead letter kept it: the event that it would be, or what is still wrong. Pure but
for the uid.

The item has the id that a poll would give it, so that a poll which brings it as well adds nothing.
"""

from typing import Any, Final

import orjson

from sensors.adapters.http_items import BadAnswer, BadItem, parse
from sensors.adapters.http_poll import CREATED, JSON, Plan
from sensors.adapters.item_expect import REASON
from sensors.batch import Batch, DeadLetter
from sensors.event import Event
from sensors.retrying import NotRetryable
from sensors.uid import EVENT, new_uid

BAD_ITEM: Final = "bad_item"


def item_again(plan: Plan, letter: DeadLetter, at: int) -> Batch:
    """Return the event of an item received at `at`, or its dead letter. Raises NotRetryable."""
    if letter.reason == REASON:
        return _refused(plan, letter, at)
    if letter.reason != BAD_ITEM or plan.reader is None:
        raise NotRetryable("the letter holds no item; `sensors poll` asks for everything again")
    try:
        value = parse(letter.payload)
        item = plan.reader.identify(value, None, {})
    except (BadAnswer, BadItem) as error:
        return Batch(dead_letters=(DeadLetter(BAD_ITEM, str(error)[:2000], plan.source, letter.payload, JSON),))
    fields = {"id": item.id, "type": CREATED, "subject": item.subject}
    time = None if item.mark is None else item.mark.micros
    return _judged(plan, value, _event(plan, {**fields, "time": time}, item.data, at))


def _refused(plan: Plan, letter: DeadLetter, at: int) -> Batch:
    try:
        whole = parse(letter.payload)
        head, value = whole["event"], whole["data"]
        event = _event(plan, head, orjson.dumps(value), at)
    except (BadAnswer, KeyError, TypeError) as error:
        raise NotRetryable(f"the letter does not hold the item whole: {error}; `sensors poll` asks again") from error
    return _judged(plan, value, event)


def _judged(plan: Plan, value: Any, event: Event) -> Batch:
    letter = None if plan.expectation is None else plan.expectation.letter(value, event)
    return Batch(events=(event,)) if letter is None else Batch(dead_letters=(letter,))


def _event(plan: Plan, head: dict[str, Any], data: bytes, at: int) -> Event:
    return Event(
        sensor=plan.sensor,
        id=head["id"],
        uid=new_uid(EVENT, at),
        source=plan.source,
        type=head["type"],
        received_at=at,
        subject=head["subject"],
        time=head["time"],
        data=data,
        content_type=JSON,
    )
