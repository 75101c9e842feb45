"""The handshake by OPTIONS: a sender asks whether it may deliver here, before it does (CloudEvents' webhooks, §4).

It authenticates nobody: it only keeps others from being flooded by a sender that was told a wrong address. Consent is
the presence of two headers; whoever may not is answered without them. A callback address is never called: it comes
from a stranger.
"""

import re
from collections.abc import Sequence

from sensors.batch import Reply
from sensors.errors import Refused
from sensors.sensor import Request

_ORIGIN = re.compile(r"[A-Za-z0-9.:_*-]{1,255}")
_RATE = re.compile(r"[1-9][0-9]{0,8}")


def permission(request: Request, origins: Sequence[str], rate: int | None, methods: Sequence[str]) -> Reply:
    """Return the consent to a sender among `origins`. Raises Refused(403) for any other, 400 for no request of this."""
    allow = {"allow": ", ".join(methods)}
    asked = request.headers.get("webhook-request-origin", ())
    if len(asked) != 1 or not _ORIGIN.fullmatch(asked[0].strip()):
        raise Refused(400, "origin", "webhook-request-origin is missing, or is not one name", headers=allow)
    origin = asked[0].strip()
    everybody = "*" in origins
    if not everybody and origin.lower() not in [name.lower() for name in origins]:
        raise Refused(403, "origin", f"{origin} is not among `cloudevents.origins`", headers=allow)
    wanted = request.headers.get("webhook-request-rate", ())
    granted = "*" if rate is None else str(rate)
    if len(wanted) == 1 and _RATE.fullmatch(wanted[0].strip()):
        granted = wanted[0].strip() if rate is None else str(min(rate, int(wanted[0])))
    return Reply(200, headers={**allow, "webhook-allowed-origin": origin, "webhook-allowed-rate": granted})
