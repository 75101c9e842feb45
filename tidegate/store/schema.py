"""The tables, once, for SQLite and PostgreSQL. Migrations must lead to exactly this; a test compares the two.

Nothing at run time imports this module: the statements are plain SQL (`sql_*.py`), and SQLAlchemy is loaded only to
migrate. Moments are UTC microseconds in BIGINT, JSON is text, text compares by its UTF-8 bytes on both databases
(collation "C" on PostgreSQL), which makes key order, lock order and page order the same everywhere.

What may be pruned (events, runs, decisions, logs) is kept apart from what must outlive it (event_ids, run_keys,
lineage stubs).
"""

from sqlalchemy import Column, Float, Index, LargeBinary

from tidegate.store.columns import int_column as _i
from tidegate.store.columns import metadata
from tidegate.store.columns import narrow as _table
from tidegate.store.columns import seq_column as _seq
from tidegate.store.columns import text_column as _t
from tidegate.store.columns import where as _where
from tidegate.store.columns import wide as _wide
from tidegate.store.schema_alerts import alert_groups, alert_messages, alerts
from tidegate.store.schema_replays import replays  # noqa: F401 - its tables belong to the same metadata

__all__ = ["alert_groups", "alert_messages", "alerts", "metadata"]

_NOT_FINAL = "state IN ('queued', 'running', 'cancelling')"
_ACTIVE = "state IN ('running', 'cancelling')"


# -- events ------------------------------------------------------------------------------------------------------------
events = _wide(
    "events",
    _t("uid", key=True),
    _t("sensor"),
    _t("id"),
    _t("source"),
    _t("type"),
    _t("subject", null=True),
    _i("time", null=True),
    _i("received_at"),
    Column("data", LargeBinary),
    _i("size"),
    _i("blob"),  # 1: the data is in `blobs`
    _t("content_type", null=True),
    _t("attributes", null=True),
    _t("captures", null=True),
    _t("traceparent", null=True),
    _t("tracestate", null=True),
    _i("trusted"),
    _i("depth"),
    _t("cause_run", null=True),
    _t("span", null=True),
    _t("state"),
)
Index("ix_events_sensor", events.c.sensor, events.c.received_at, events.c.uid)  # lists, retention (sensor by sensor)
Index("ix_events_cause", events.c.cause_run, **_where("cause_run IS NOT NULL"))  # run -> its own events, for lineage

blobs = _wide("blobs", _t("uid", key=True), Column("data", LargeBinary, nullable=False))

event_ids = _table("event_ids", _t("sensor", key=True), _t("id", key=True), _t("uid"), _i("expires_at", null=True))
Index("ix_event_ids_expires", event_ids.c.expires_at, **_where("expires_at IS NOT NULL"))  # expiry

cursors = _table("cursors", _t("sensor", key=True), _t("shard", key=True), _t("value"), _i("epoch"), _i("updated_at"))

seen_objects = _table(
    "seen_objects",
    _t("sensor", key=True),
    _t("key", key=True),
    _t("token"),
    _i("incarnation"),
    _t("state"),
    _i("first_seen"),
    _i("last_changed"),
    _t("extra"),
)

object_actions = _table(  # what is to be done to an object once its run allows
    "object_actions",
    _t("uid", key=True),
    _t("sensor"),
    _t("event"),  # its uid; "" when it waits for none
    _t("key"),
    _t("etag"),
    _t("action"),
    _t("target"),
    _t("tags", null=True),
    _t("moment"),
    _i("created_at"),
    _i("ready"),  # 1: at once, or its event has a run
)
Index("ix_object_actions_ready", object_actions.c.sensor, object_actions.c.uid, **_where("ready = 1"))  # what is due
Index("ix_object_actions_key", object_actions.c.sensor, object_actions.c.key, object_actions.c.uid)  # our own writes
Index("ix_object_actions_event", object_actions.c.event, object_actions.c.created_at)  # runs, retention

dead_letters = _wide(
    "dead_letters",
    _t("uid", key=True),
    _t("sensor"),
    _i("at"),
    _t("reason"),
    _t("detail"),
    _t("position"),
    Column("payload", LargeBinary, nullable=False),
    _t("content_type", null=True),
    _t("event_uid", null=True),
    _t("attributes", null=True),
)
Index("ix_dead_letters_sensor", dead_letters.c.sensor, dead_letters.c.uid)  # lists by sensor

# -- decisions ---------------------------------------------------------------------------------------------------------
decisions = _wide(
    "decisions",
    _t("uid", key=True),
    _t("trigger"),
    _t("version"),
    _t("outcome"),
    _i("at"),
    _t("reason"),
    _t("clause", null=True),
    _t("trigger_event", null=True),
    _t("run", null=True),
    _i("item", null=True),
    _i("sampled"),
    _t("span", null=True),
    _t("details", null=True),
)
Index("ix_decisions_trigger", decisions.c.trigger, decisions.c.uid)  # "why did this trigger not fire?"
Index(  # what a paused trigger holds, in order of arrival
    "ix_decisions_paused", decisions.c.trigger, decisions.c.at, decisions.c.uid, **_where("outcome = 'paused'")
)

decision_events = _table("decision_events", _t("decision", key=True), _i("pos", key=True), _t("event"))
Index("ix_decision_events_event", decision_events.c.event, decision_events.c.decision)  # explain EVENT

trigger_events = _wide(
    "trigger_events",
    _t("uid", key=True),
    _t("trigger"),
    _t("version"),
    _i("at"),
    _t("pipeline"),
    _t("key"),
    _t("params", null=True),
    _t("partition", null=True),
    _t("lane", null=True),
    _t("span", null=True),
    _t("config_hash"),
)
trigger_causes = _table("trigger_causes", _t("trigger_event", key=True), _i("pos", key=True), _t("event"))
Index("ix_trigger_causes_event", trigger_causes.c.event)  # lineage down; retention of events

rounds = _table(  # the keys that patterns (joins, counts, absences) wait for
    "rounds",
    _t("trigger", key=True),
    _t("key", key=True),
    _t("phase"),
    _t("uid"),  # of this opening: its open decision and its timer
    _t("meaning"),
    _t("version"),
    _i("since"),
    _i("due"),
    _i("taken"),
    _i("counted"),
    _i("as_of"),
)
Index("ix_rounds_done", rounds.c.due, **_where("phase <> 'open'"))  # retention

round_events = _table(  # what they hold
    "round_events",
    _t("trigger", key=True),
    _t("key", key=True),
    _t("part", key=True),
    _t("event", key=True),
    _i("at"),
    _i("depth"),
)

# -- runs --------------------------------------------------------------------------------------------------------------
run_keys = _table(
    "run_keys",
    _t("scope", key=True),
    _t("pipeline", key=True),
    _t("key", key=True),
    _i("generation"),
    _t("last_run", null=True),
    _t("last_state", null=True),  # only of a pruned run; else its row tells
)
lanes = _table("lanes", _t("pipeline", key=True), _t("lane", key=True))  # rows to lock, PostgreSQL
definitions = _wide("definitions", _t("hash", key=True), _t("text"), _i("at"))

runs = _wide(
    "runs",
    _seq(),
    _t("uid"),
    _t("pipeline"),
    _t("definition"),
    _t("state"),
    _t("key"),
    _t("key_scope"),
    _i("created_at"),
    _i("generation"),
    _t("trigger", null=True),
    _t("trigger_event", null=True),
    _t("params", null=True),
    _t("partition", null=True),
    _t("lane", null=True),
    _i("depth"),
    _t("holder", null=True),
    _i("lease_until", null=True),
    _i("fence"),
    _i("started_at", null=True),
    _i("finished_at", null=True),
    _t("error", null=True),
    _t("cancel_reason", null=True),
    _t("span", null=True),
    _t("run_span", null=True),
    _t("resumed_from", null=True),
    _t("config_hash"),
    _i("priority", default=0),
)
Index("ix_runs_uid", runs.c.uid, unique=True)
Index("ix_runs_pipeline", runs.c.pipeline, runs.c.seq)  # lists by pipeline
Index("ix_runs_free", runs.c.pipeline, runs.c.seq, **_where("state = 'queued' AND lane IS NULL"))  # claims
Index("ix_runs_laned", runs.c.pipeline, runs.c.seq, **_where("state = 'queued' AND lane IS NOT NULL"))  # claims
Index("ix_runs_lane", runs.c.pipeline, runs.c.lane, runs.c.seq, **_where(f"lane IS NOT NULL AND {_NOT_FINAL}"))  # lanes
Index(  # claims: what goes before its turn
    "ix_runs_urgent", runs.c.pipeline, runs.c.priority, runs.c.seq, **_where("state = 'queued' AND priority > 0")
)
Index("ix_runs_active", runs.c.pipeline, runs.c.lease_until, **_where(_ACTIVE))  # concurrency, leases
Index("ix_runs_trigger_event", runs.c.trigger_event, **_where("trigger_event IS NOT NULL"))  # lineage, retention
Index("ix_runs_partition", runs.c.partition, runs.c.seq, **_where("partition IS NOT NULL"))  # lists by partition
Index("ix_runs_resumed", runs.c.resumed_from, **_where("resumed_from IS NOT NULL"))  # retention

run_events = _table("run_events", _t("run", key=True), _i("pos", key=True), _t("event"))
Index("ix_run_events_event", run_events.c.event, run_events.c.run)  # what came out of this event; retention

task_runs = _wide(
    "task_runs",
    _seq(),
    _t("uid"),
    _t("run"),
    _t("task"),
    _t("partition"),
    _t("state"),
    _i("attempt"),
    _i("failures"),
    _i("lost"),
    _t("engine"),
    _t("engine_key", null=True),
    _t("handle", null=True),
    _i("started_at", null=True),
    _i("finished_at", null=True),
    _i("next_at", null=True),
    _t("output", null=True),
    _t("error", null=True),
    _t("error_kind", null=True),
    _t("span", null=True),
    Column("cpu_seconds", Float(53)),
    _i("peak_rss_bytes", null=True),
    _t("item", null=True),
    _i("first_started_at", null=True),
)
Index("ix_task_runs_uid", task_runs.c.uid, unique=True)
Index("ix_task_runs_run", task_runs.c.run, task_runs.c.seq)  # the tasks of a run, in order

logs = _wide("logs", _seq(), _t("run"), _t("task"), _i("attempt"), _i("at"), _t("stream"), _t("text"))
Index("ix_logs_run", logs.c.run, logs.c.seq)  # the log of a run, page by page

# -- what came out -----------------------------------------------------------------------------------------------------
dataset_writes = _wide(
    "dataset_writes",
    _seq(),
    _t("run"),
    _t("namespace"),
    _t("name"),
    _t("task"),
    _i("at"),
    _t("mode"),
    _i("rows", null=True),
    _i("bytes", null=True),
    _t("schema", null=True),
    _t("version", null=True),
    _t("dataset", null=True),
    _t("disposition", null=True),
    _t("partition", null=True),
    _t("changes", null=True),
)
Index("ix_dataset_writes_run", dataset_writes.c.run)  # lineage down
Index("ix_dataset_writes_name", dataset_writes.c.namespace, dataset_writes.c.name, dataset_writes.c.seq)  # lineage up

datasets = _table(
    "datasets",
    _t("namespace", key=True),
    _t("name", key=True),
    _t("run"),
    _t("task"),
    _i("at"),
    _t("mode"),
    _i("rows", null=True),
    _i("bytes", null=True),
    _t("schema", null=True),
    _t("version", null=True),
    _t("dataset", null=True),
    _t("disposition", null=True),
    _t("partition", null=True),
    _t("changes", null=True),
)
checks = _wide(
    "checks",
    _seq(),
    _t("run"),
    _t("name"),
    _t("task"),
    _t("dataset"),
    _i("passed"),
    _t("severity"),
    _t("message"),
    _i("at"),
    _t("expected", null=True),
    _t("actual", null=True),
    _t("sample", null=True),
)
Index("ix_checks_run", checks.c.run)  # the checks of a run
Index("ix_checks_dataset", checks.c.dataset, checks.c.seq)  # the last checks of a dataset

stubs = _table("stubs", _t("uid", key=True), _t("kind"), _t("label"), _i("at"))  # what is left of a pruned row
edges = _table("edges", _t("src", key=True), _t("dst", key=True), _t("kind"))  # and of its place in the lineage
Index("ix_edges_dst", edges.c.dst)  # lineage up

# -- small things ------------------------------------------------------------------------------------------------------
counters = _table(
    "counters", _t("kind", key=True), _t("name", key=True), _t("outcome", key=True), _t("shard", key=True), _i("n")
)
timers = _table("timers", _t("kind", key=True), _t("key", key=True), _i("due"), _t("payload"))
Index("ix_timers_due", timers.c.due)  # what is due

settings = _table("settings", _t("name", key=True), _t("value"))
