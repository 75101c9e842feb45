"""The tables of replays and of dead letters that were tried again; `tidegate.store.schema` gathers all tables."""

from sqlalchemy import Index

from tidegate.store.columns import int_column as _i
from tidegate.store.columns import narrow as _table
from tidegate.store.columns import text_column as _t
from tidegate.store.columns import where as _where
from tidegate.store.columns import wide as _wide

__all__ = ["replay_runs", "replays", "retried_letters"]

replays = _wide(
    "replays",
    _t("uid", key=True),
    _t("request_id"),
    _t("spec"),
    _i("created_at"),
    _t("state"),
    _t("position"),
    _t("counts"),
    _t("samples"),
    _i("next_at"),
    _t("holder"),
    _i("lease_until"),
    _i("finished_at", null=True),
    _t("reason"),
)
Index("ix_replays_request", replays.c.request_id, unique=True)  # the same request is the same replay
Index("ix_replays_open", replays.c.next_at, replays.c.uid, **_where("state IN ('queued', 'running')"))  # what is due
Index("ix_replays_finished", replays.c.finished_at, **_where("finished_at IS NOT NULL"))  # retention

replay_runs = _table(  # which run stands for what: once in a replay
    "replay_runs",
    _t("replay", key=True),
    _t("cause", key=True),
    _t("trigger", key=True),
    _i("rule", key=True),
    _i("item", key=True),
    _t("run"),
    _t("origin", null=True),
)
Index("ix_replay_runs_run", replay_runs.c.run, unique=True)  # of which replay a run is
Index("ix_replay_runs_list", replay_runs.c.replay, replay_runs.c.run)  # the runs of a replay, by age
Index("ix_replay_runs_origin", replay_runs.c.origin, **_where("origin IS NOT NULL"))  # lineage down

retried_letters = _table(  # dead letters that are dealt with, and what came of them
    "retried_letters", _t("letter", key=True), _i("at"), _t("became")
)
Index("ix_retried_letters_at", retried_letters.c.at)  # retention
