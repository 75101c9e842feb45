"""From a rendered run to an intent: what the ingest transaction is asked to start. Pure."""

from collections.abc import Callable

from sensors import uid as uids
from sensors.event import Event
from triggers.plan import Intent
from triggers.ports import RunKeyName
from triggers.trigger import Trigger
from triggers.wish import Wish


def intent_of(event: Event, trigger: Trigger, wish: Wish, uid: Callable[[str], str]) -> Intent:
    """Return the intent of a run that one event asks for."""
    rule = wish.run.rule
    fired = uid(uids.TRIGGER_EVENT)
    scope = f"pipeline/{rule.pipeline}" if rule.key_scope == "pipeline" else f"trigger/{trigger.name}"
    return Intent(
        trigger=trigger.name,
        version=trigger.version,
        trigger_event=fired,
        events=(event.uid,),
        pipeline=rule.pipeline,
        key=RunKeyName(scope, rule.pipeline, fired if wish.key is None else wish.key),
        keyed=wish.key is not None,
        depth=event.depth,
        rule=wish.run.position,
        item=wish.item,
        params=wish.params,
        partition=wish.partition,
        lane=wish.lane,
        repeat=trigger.repeat,
        when_busy=trigger.when_busy,
        priority=rule.priority,
    )
