"""A real mail server on a free port of loopback that keeps what it gets."""

import email
import email.policy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

PASSWORD = "s3cr3t-of-mail"


@dataclass
class Mailbox:
    """What arrived, and where the server listens. `refuse` is what it answers to a mail instead of taking it."""

    port: int = 0
    refuse: str = ""
    mails: list[EmailMessage] = field(default_factory=list)

    def url(self, password: str = PASSWORD) -> str:
        """Return the apprise URL that leads here."""
        return f"mailto://gate:{password}@127.0.0.1:{self.port}/?mode=insecure&from=gate@gate.test&to=oncall@gate.test"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Take a mail, or refuse it."""
        if self.refuse:
            return self.refuse
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"


class _AnyPort(Controller):
    """A controller that finds out which port it got."""

    def _trigger_server(self) -> None:
        listening: Any = self.server
        self.port = listening.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    """Serve mail until the block ends; the one password that it knows is PASSWORD."""
    box = Mailbox()

    def login(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        return AuthResult(success=data.password == PASSWORD.encode(), handled=False)

    logging.getLogger("mail.log").setLevel(logging.ERROR)
    controller = _AnyPort(
        box, hostname="127.0.0.1", port=0, authenticator=login, auth_required=True, auth_require_tls=False
    )
    controller.start()
    box.port = controller.port
    try:
        yield box
    finally:
        controller.stop()
