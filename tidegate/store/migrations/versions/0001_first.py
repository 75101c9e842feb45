"""The first schema.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _t(name: str, *, null: bool = False) -> "sa.Column[str]":
    return sa.Column(name, sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=null)


def _i(name: str, *, null: bool = False) -> "sa.Column[int]":
    return sa.Column(name, sa.BigInteger(), autoincrement=False, nullable=null)


def _seq() -> "sa.Column[int]":
    return sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False)


def _partial(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, unique=False, sqlite_where=where, postgresql_where=where)


def upgrade() -> None:
    op.create_table(
        "blobs", _t("uid"), sa.Column("data", sa.LargeBinary(), nullable=False), sa.PrimaryKeyConstraint("uid")
    )
    op.create_table(
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
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("ix_checks_run", "checks", ["run"], unique=False)
    op.create_table(
        "counters",
        _t("kind"),
        _t("name"),
        _t("outcome"),
        _t("shard"),
        _i("n"),
        sa.PrimaryKeyConstraint("kind", "name", "outcome", "shard"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cursors",
        _t("sensor"),
        _t("shard"),
        _t("value"),
        _i("epoch"),
        _i("updated_at"),
        sa.PrimaryKeyConstraint("sensor", "shard"),
        sqlite_with_rowid=False,
    )
    op.create_table(
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
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("ix_dataset_writes_name", "dataset_writes", ["namespace", "name", "seq"], unique=False)
    op.create_index("ix_dataset_writes_run", "dataset_writes", ["run"], unique=False)
    op.create_table(
        "datasets",
        _t("namespace"),
        _t("name"),
        _t("run"),
        _t("task"),
        _i("at"),
        _t("mode"),
        _i("rows", null=True),
        _i("bytes", null=True),
        _t("schema", null=True),
        _t("version", null=True),
        sa.PrimaryKeyConstraint("namespace", "name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "dead_letters",
        _t("uid"),
        _t("sensor"),
        _i("at"),
        _t("reason"),
        _t("detail"),
        _t("position"),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        _t("content_type", null=True),
        _t("event_uid", null=True),
        _t("attributes", null=True),
        sa.PrimaryKeyConstraint("uid"),
    )
    op.create_index("ix_dead_letters_sensor", "dead_letters", ["sensor", "uid"], unique=False)
    op.create_table(
        "decision_events",
        _t("decision"),
        _i("pos"),
        _t("event"),
        sa.PrimaryKeyConstraint("decision", "pos"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_decision_events_event", "decision_events", ["event", "decision"], unique=False)
    op.create_table(
        "decisions",
        _t("uid"),
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
        sa.PrimaryKeyConstraint("uid"),
    )
    op.create_index("ix_decisions_trigger", "decisions", ["trigger", "uid"], unique=False)
    _partial("ix_decisions_paused", "decisions", ["trigger", "at", "uid"], "outcome = 'paused'")
    op.create_table("definitions", _t("hash"), _t("text"), _i("at"), sa.PrimaryKeyConstraint("hash"))
    op.create_table(
        "edges", _t("src"), _t("dst"), _t("kind"), sa.PrimaryKeyConstraint("src", "dst"), sqlite_with_rowid=False
    )
    op.create_index("ix_edges_dst", "edges", ["dst"], unique=False)
    op.create_table(
        "event_ids",
        _t("sensor"),
        _t("id"),
        _t("uid"),
        _i("expires_at", null=True),
        sa.PrimaryKeyConstraint("sensor", "id"),
        sqlite_with_rowid=False,
    )
    _partial("ix_event_ids_expires", "event_ids", ["expires_at"], "expires_at IS NOT NULL")
    op.create_table(
        "events",
        _t("uid"),
        _t("sensor"),
        _t("id"),
        _t("source"),
        _t("type"),
        _t("subject", null=True),
        _i("time", null=True),
        _i("received_at"),
        sa.Column("data", sa.LargeBinary(), nullable=True),
        _i("size"),
        _i("blob"),
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
        sa.PrimaryKeyConstraint("uid"),
    )
    _partial("ix_events_cause", "events", ["cause_run"], "cause_run IS NOT NULL")
    op.create_index("ix_events_sensor", "events", ["sensor", "received_at", "uid"], unique=False)
    op.create_table(
        "lanes", _t("pipeline"), _t("lane"), sa.PrimaryKeyConstraint("pipeline", "lane"), sqlite_with_rowid=False
    )
    op.create_table(
        "logs",
        _seq(),
        _t("run"),
        _t("task"),
        _i("attempt"),
        _i("at"),
        _t("stream"),
        _t("text"),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("ix_logs_run", "logs", ["run", "seq"], unique=False)
    op.create_table(
        "run_events", _t("run"), _i("pos"), _t("event"), sa.PrimaryKeyConstraint("run", "pos"), sqlite_with_rowid=False
    )
    op.create_index("ix_run_events_event", "run_events", ["event", "run"], unique=False)
    op.create_table(
        "run_keys",
        _t("scope"),
        _t("pipeline"),
        _t("key"),
        _i("generation"),
        _t("last_run", null=True),
        _t("last_state", null=True),
        sa.PrimaryKeyConstraint("scope", "pipeline", "key"),
        sqlite_with_rowid=False,
    )
    op.create_table(
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
        sa.PrimaryKeyConstraint("seq"),
    )
    _partial("ix_runs_active", "runs", ["pipeline", "lease_until"], "state IN ('running', 'cancelling')")
    _partial("ix_runs_free", "runs", ["pipeline", "seq"], "state = 'queued' AND lane IS NULL")
    _partial(
        "ix_runs_lane",
        "runs",
        ["pipeline", "lane", "seq"],
        "lane IS NOT NULL AND state IN ('queued', 'running', 'cancelling')",
    )
    _partial("ix_runs_laned", "runs", ["pipeline", "seq"], "state = 'queued' AND lane IS NOT NULL")
    op.create_index("ix_runs_pipeline", "runs", ["pipeline", "seq"], unique=False)
    _partial("ix_runs_resumed", "runs", ["resumed_from"], "resumed_from IS NOT NULL")
    _partial("ix_runs_trigger_event", "runs", ["trigger_event"], "trigger_event IS NOT NULL")
    op.create_index("ix_runs_uid", "runs", ["uid"], unique=True)
    op.create_table(
        "seen_objects",
        _t("sensor"),
        _t("key"),
        _t("token"),
        _i("incarnation"),
        _t("state"),
        _i("first_seen"),
        _i("last_changed"),
        _t("extra"),
        sa.PrimaryKeyConstraint("sensor", "key"),
        sqlite_with_rowid=False,
    )
    op.create_table("settings", _t("name"), _t("value"), sa.PrimaryKeyConstraint("name"), sqlite_with_rowid=False)
    op.create_table(
        "stubs", _t("uid"), _t("kind"), _t("label"), _i("at"), sa.PrimaryKeyConstraint("uid"), sqlite_with_rowid=False
    )
    op.create_table(
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
        sa.Column("cpu_seconds", sa.Float(precision=53), nullable=True),
        _i("peak_rss_bytes", null=True),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("ix_task_runs_run", "task_runs", ["run", "seq"], unique=False)
    op.create_index("ix_task_runs_uid", "task_runs", ["uid"], unique=True)
    op.create_table(
        "timers",
        _t("kind"),
        _t("key"),
        _i("due"),
        _t("payload"),
        sa.PrimaryKeyConstraint("kind", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_timers_due", "timers", ["due"], unique=False)
    op.create_table(
        "trigger_causes",
        _t("trigger_event"),
        _i("pos"),
        _t("event"),
        sa.PrimaryKeyConstraint("trigger_event", "pos"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_trigger_causes_event", "trigger_causes", ["event"], unique=False)
    op.create_table(
        "trigger_events",
        _t("uid"),
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
        sa.PrimaryKeyConstraint("uid"),
    )


def downgrade() -> None:
    for table in (
        "trigger_events",
        "trigger_causes",
        "timers",
        "task_runs",
        "stubs",
        "settings",
        "seen_objects",
        "runs",
        "run_keys",
        "run_events",
        "logs",
        "lanes",
        "events",
        "event_ids",
        "edges",
        "definitions",
        "decisions",
        "decision_events",
        "dead_letters",
        "datasets",
        "dataset_writes",
        "cursors",
        "counters",
        "checks",
        "blobs",
    ):
        op.drop_table(table)
