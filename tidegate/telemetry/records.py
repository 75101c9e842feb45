"""What the event loop hands to the telemetry thread: flat tuples of text and numbers, never a row with its payload.

A record holds the few fields that a span shows, so that a queue full of them stays small however large the events were.
They are plain tuples because building one costs a tenth of a microsecond, a named one four times that. All begin alike:
kind, context, parent, links, start and end (ns); what follows is named beside each type.
"""

Links = tuple[str, ...]

REQUEST, EVENT, DECISION, TRIGGER, RUN, TASK, POLL = range(7)

# method, route, status, path, scheme
RequestRecord = tuple[int, str, str | None, Links, int, int, str, str, int, str, str]

# sensor, id, source, type, subject, uid, state
EventRecord = tuple[int, str, str | None, Links, int, int, str, str, str, str, str | None, str, str]

# trigger, version, outcome, uid, number of events
DecisionRecord = tuple[int, str, str | None, Links, int, int, str, str, str, str, int]

# pipeline, trigger, trigger event's uid, run's uid, key, generation
TriggerRecord = tuple[int, str, str | None, Links, int, int, str, str, str, str, str, int]

# pipeline, trigger, result, error type, uid, key, generation
RunRecord = tuple[int, str, str | None, Links, int, int, str, str, str, str, str, str, int]

# pipeline, task, engine, result, error type, run's uid, uid, attempt, partition
TaskRecord = tuple[int, str, str | None, Links, int, int, str, str, str, str, str, str, str, int, str]

# sensor, number of events
PollRecord = tuple[int, str, str | None, Links, int, int, str, int]

Record = RequestRecord | EventRecord | DecisionRecord | TriggerRecord | RunRecord | TaskRecord | PollRecord
