"""HTML built from values: what is text is escaped, always; only `Html` made here is markup.

Pages carry a strict content security policy: styles and the one script come from this server, nothing else is loaded.
"""

from collections.abc import Callable
from html import escape

from starlette.responses import HTMLResponse

CSP = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_CONTROLS = dict.fromkeys(
    (code for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n\r"), "\N{REPLACEMENT CHARACTER}"
)
_VOID = frozenset({"meta", "link", "input", "br", "hr"})


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def text(value: object) -> Html:
    """Escape a value for any place in a page; what neither UTF-8 nor HTML can hold is replaced."""
    if isinstance(value, Html):
        return value
    words = "" if value is None else str(value).encode("utf-8", "replace").decode()
    return Html(escape(words.translate(_CONTROLS), quote=True))


def tag(name: str, /, **attributes: object) -> Callable[..., Html]:
    """Return a function of children that builds an element. `cls` is the class; None leaves an attribute out."""
    opened = "".join(
        f" {'class' if key == 'cls' else key.replace('_', '-')}" + ("" if value is True else f'="{text(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )

    def build(*children: object) -> Html:
        if name in _VOID:
            return Html(f"<{name}{opened}>")
        return Html(f"<{name}{opened}>{''.join(text(child) for child in children)}</{name}>")

    return build


def page(title: str, body: Html, *, status: int = 200, service: str = "", live: bool = False) -> HTMLResponse:
    """Build a whole page. `live`: its main part is fetched again every few seconds while it is looked at."""
    head = tag("head")(
        tag("meta", charset="utf-8")(),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1")(),
        tag("meta", name="color-scheme", content="light dark")(),
        tag("title")(f"{title} · Tidegate"),
        tag("link", rel="icon", href="data:,")(),
        tag("link", rel="stylesheet", href="/console/style.css")(),
        tag("script", src="/console/console.js", defer=True)() if live else Html(),
    )
    header = tag("header")(
        tag("a", href="/", cls="brand")(_WAVE, "Tidegate"),
        tag("span", cls="muted")(service),
        tag("nav")(tag("a", href="/")("Overview"), tag("a", href="/api/docs")("API")),
    )
    content = tag("body")(header, tag("main", id="main", data_live=True if live else None)(body))
    document = f"<!doctype html>\n{tag('html', lang='en')(head, content)}\n"
    return HTMLResponse(document, status, {"Content-Security-Policy": CSP})


_WAVE = Html(
    '<svg viewBox="0 0 32 20" width="28" height="18" aria-hidden="true"><path d="M1 12c5 0 5-6 10-6s5 6 10 6 5-6 10-6" '
    'fill="none" stroke="currentColor" stroke-width="3" stroke-linecap="round"/><path d="M1 18c5 0 5-6 10-6s5 6 10 6 '
    '5-6 10-6" fill="none" stroke="currentColor" stroke-width="3" stroke-linecap="round" opacity=".4"/></svg>'
)
