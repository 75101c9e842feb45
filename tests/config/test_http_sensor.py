"""Configurations of the http kind: what is wrong is found at its place, without a secret and without a connection."""

from pathlib import Path

import pytest

from config.check import check

HEAD = "sensors:\n  api: {kind: http, start: now, "


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("url: 'https://a.example/x', items: bdy.items}", "sensors.api.items: nothing is named bdy here"),
        ("url: 'https://a.example/x', id: item.}", "sensors.api.id: "),
        (
            "url: 'https://a.example/x', query: {since: '${{ cursr.high }}'}}",
            "sensors.api.query.since: nothing is named",
        ),
        ("url: 'https://a.example/x', headers: {X-A: 'a ${{ 1 + }} b'}}", "sensors.api.headers.X-A: "),
        ("url: 'https://a.example/${{ nw }}'}", "sensors.api.url: nothing is named nw here"),
        (
            "url: 'https://a.example/x', paging: {by: cursor, next: bdy.next}}",
            "sensors.api.paging.next: nothing is named",
        ),
        ("url: 'https://u:p@a.example/x'}", "sensors.api.url: must not hold a password"),
        ("url: 'https://a.example/x', auth: {scheme: bearer, token: written-out}}", "a secret is written out"),
        ("url: 'https://a.example/x', paging: {by: lnk}}", "sensors.api.paging.by: "),
        ("url: 'https://a.example/x', evry: 5m}", "sensors.api.evry: unknown key"),
        ("url: 'https://a.example/x', overlap: 5 minutes, high: item.at}", "sensors.api.overlap: "),
    ],
)
def test_what_is_wrong_is_found_at_its_place(tmp_path: Path, line: str, expected: str) -> None:
    """Expressions in fields and in templates, URLs, secrets and unknown words have their place and their sentence."""
    file = tmp_path / "tidegate.yaml"
    file.write_text(HEAD + line + "\n")

    found = [str(problem) for problem in check([file], environ={})]

    assert len(found) == 1
    assert expected in found[0]


def test_a_good_one_needs_no_secret(tmp_path: Path) -> None:
    """References to variables that are not set are no problem of the check, wherever they stand."""
    file = tmp_path / "tidegate.yaml"
    file.write_text(
        HEAD + "url: 'https://a.example/x?key=${env:KEY}', items: body.items, id: item.id, version: item.updated_at, "
        "high: item.updated_at, overlap: 10m, query: {since: '${{ cursor.high }}'}, headers: {X-Key: 'K ${env:KEY}'}, "
        "auth: {scheme: oauth2, token_url: 'https://a.example/t', client_id: me, client_secret: 'env:SECRET'}, "
        "paging: {by: offset, limit: 100}}\n"
    )

    assert check([file], environ={}) == []
