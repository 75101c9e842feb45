"""How the pages of one list follow each other. Pure: in flow a page and how it was asked for, out flows what is next.

A pager belongs to one poll. It never leaves the origin of the first request, and it can say that a list moved while it
was read (`steady`): by offset each page begins with the last items of the one before, so that a row which was added or
taken away in between is noticed. A list by offset or page number ends with an empty page, or with one that is shorter
than another was: a server may give fewer items than were asked for, so a short first page proves nothing. `more` (CEL
over body and headers) saves that last request.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urljoin

from sensors.adapters.http_asking import Ask, origin_of, shown_url
from sensors.adapters.http_items import canonical
from sensors.adapters.http_options import CursorPaging, LinkPaging, NumberPaging, OffsetPaging

_LINK: Final = re.compile(r"<([^<>]*)>((?:\s*;\s*[^;,\"<>]*(?:\"(?:[^\"\\]|\\.)*\")?)*)", re.DOTALL)
_REL: Final = re.compile(r";\s*rel\s*=\s*(?:\"([^\"]*)\"|([^\s;,\"]+))", re.IGNORECASE)


class PagingError(ValueError):
    """The next page cannot be asked for; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `url` is where it came from."""

    url: str
    headers: Mapping[str, str]
    body: Any
    items: Sequence[Any]


class Pager(Protocol):
    """Leads from page to page. `counts` says that pages are positions in a list, which rows may move across."""

    steady: bool
    counts: bool

    def first(self, ask: Ask) -> Ask:
        """Return how to ask for the first page."""
        ...

    def next(self, ask: Ask, page: Page) -> Ask | None:
        """Return how to ask for the page after this one; None at the end. Raises PagingError."""
        ...


Evaluate = Callable[[Mapping[str, Any]], Any]


class OnePage:
    """There is only one."""

    steady = True
    counts = False

    def first(self, ask: Ask) -> Ask:
        return ask

    def next(self, ask: Ask, page: Page) -> Ask | None:
        return None


class LinkPager:
    """`Link: rel="next"`."""

    steady = True
    counts = False

    def first(self, ask: Ask) -> Ask:
        return ask

    def next(self, ask: Ask, page: Page) -> Ask | None:
        link = next_link(page.headers)
        return None if link is None else _at(ask, page.url, link)


class CursorPager:
    """Something in the answer leads on."""

    steady = True
    counts = False

    def __init__(self, options: CursorPaging, evaluate: Evaluate) -> None:
        self._options = options
        self._evaluate = evaluate

    def first(self, ask: Ask) -> Ask:
        return ask

    def next(self, ask: Ask, page: Page) -> Ask | None:
        value = _value(self._evaluate, page, "paging.next")
        if value is None or value is False or value == "":
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise PagingError(f"`paging.next` gave {type(value).__name__} where a text or a number is needed")
        if self._options.param is None:
            return _at(ask, page.url, str(value))
        return ask.with_param(self._options.param, value if isinstance(value, int) else str(value), self._options.into)


class OffsetPager:
    """How many to skip, with the last items of the page before asked for once more."""

    counts = True

    def __init__(self, options: OffsetPaging, more: Evaluate | None) -> None:
        self.steady = True
        self._options = options
        self._more = more
        self._offset = 0
        self._largest = 0
        self._repeated: list[bytes] = []

    def first(self, ask: Ask) -> Ask:
        if self._options.limit is not None:
            ask = ask.with_param(self._options.limit_param, self._options.limit, self._options.into)
        return ask.with_param(self._options.param, 0, self._options.into)

    def next(self, ask: Ask, page: Page) -> Ask | None:
        items, again = page.items, len(self._repeated)
        if [canonical(item) for item in items[:again]] != self._repeated:
            self.steady = False
        if _ends(page, self._more, self._largest, again):
            return None
        self._largest = max(self._largest, len(items))
        again = self._options.overlap if len(items) > self._options.overlap else 0
        self._repeated = [canonical(item) for item in items[len(items) - again :]]
        self._offset += len(items) - again
        return ask.with_param(self._options.param, self._offset, self._options.into)


class NumberPager:
    """Which page."""

    counts = True

    def __init__(self, options: NumberPaging, more: Evaluate | None) -> None:
        self.steady = True
        self._options = options
        self._more = more
        self._number = options.first
        self._largest = 0

    def first(self, ask: Ask) -> Ask:
        if self._options.size is not None:
            ask = ask.with_param(self._options.size_param, self._options.size, self._options.into)
        return ask.with_param(self._options.param, self._number, self._options.into)

    def next(self, ask: Ask, page: Page) -> Ask | None:
        if _ends(page, self._more, self._largest, 0):
            return None
        self._largest = max(self._largest, len(page.items))
        self._number += 1
        return ask.with_param(self._options.param, self._number, self._options.into)


def pager_maker(
    options: LinkPaging | CursorPaging | OffsetPaging | NumberPaging | None, evaluate: Callable[[str, str], Evaluate]
) -> Callable[[], Pager]:
    """Return what makes the pager of each poll. `evaluate` compiles an expression, given its text and its name."""
    if options is None:
        return OnePage
    if isinstance(options, LinkPaging):
        return LinkPager
    if isinstance(options, CursorPaging):
        found, leads = options, evaluate(options.next, "paging.next")
        return lambda: CursorPager(found, leads)
    more = None if options.more is None else evaluate(options.more, "paging.more")
    if isinstance(options, OffsetPaging):
        offset = options
        return lambda: OffsetPager(offset, more)
    number = options
    return lambda: NumberPager(number, more)


def next_link(headers: Mapping[str, str]) -> str | None:
    """Return where the header `Link` says that the next page is."""
    for target, parameters in _LINK.findall(headers.get("link", "")):
        for quoted, plain in _REL.findall(parameters):
            if "next" in (quoted or plain).lower().split():
                return str(target)
    return None


def _ends(page: Page, more: Evaluate | None, largest: int, repeated: int) -> bool:
    if more is not None:
        value = _value(more, page, "paging.more")
        if not isinstance(value, bool):
            raise PagingError(f"`paging.more` gave {type(value).__name__} where true or false is needed")
        return not value or len(page.items) <= repeated
    return len(page.items) <= repeated or len(page.items) < largest


def _value(evaluate: Evaluate, page: Page, what: str) -> Any:
    try:
        return evaluate({"body": page.body, "headers": page.headers})
    except Exception as error:
        raise PagingError(f"`{what}` cannot be evaluated on the page: {error}") from error


def _at(ask: Ask, here: str, link: str) -> Ask:
    """Return the request for a link, which stays on the origin of the page it stands on."""
    try:
        target = urljoin(here, link.strip())
        same = origin_of(target) == origin_of(here)
    except ValueError:
        raise PagingError("the link to the next page is no URL") from None
    if not same:
        raise PagingError(
            f"the next page is said to be on another host ({shown_url(target)}); that is not followed: "
            "use the URL under which the API knows itself"
        )
    return Ask(ask.method, target.partition("#")[0], (), ask.headers, ask.json, ask.text)
