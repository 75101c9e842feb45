"""The SQL transaction and what is common to the SQL stores."""

from tidegate.store.session import Session
from tidegate.store.sql_actions import ActionsSql
from tidegate.store.sql_alerts import AlertsSql
from tidegate.store.sql_claim import ClaimMemory, ClaimSql
from tidegate.store.sql_dispatch import DispatchSql, SmallSql
from tidegate.store.sql_events import EventsSql
from tidegate.store.sql_prune import PruneMemory, PruneSql
from tidegate.store.sql_rounds import RoundsSql
from tidegate.store.sql_runs import RunsSql
from tidegate.store.sql_watch import WatchSql


class SqlTx(EventsSql, ActionsSql, AlertsSql, RunsSql, RoundsSql, ClaimSql, DispatchSql, SmallSql, WatchSql, PruneSql):
    """`Tx` over a session. Data of more than `inline` bytes goes to `blobs`."""

    def __init__(self, session: Session, inline: int) -> None:
        self._s = session
        self._inline = inline
        self._memory = ClaimMemory()
        self._pruned = PruneMemory()

    def rebind(self, session: Session) -> None:
        """Go on over a new connection."""
        self._s = session

    def now(self) -> int:
        """Return the database's clock, constant within one transaction."""
        return self._s.now()
