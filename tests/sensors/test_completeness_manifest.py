"""Completeness by manifests: one event when all that is listed is there."""

import json
from typing import Any

import pytest

from sensors.adapters import manifest_look
from sensors.adapters.manifest import Manifests
from sensors.adapters.objects import ObjectPage
from tests.support.completing import Completing, keys
from triggers.template import compile_function

M = "o/1/manifest.json"


def _bench(manifest: dict[str, Any] | None = None, **more: Any) -> Completing:
    given = {"name": "o/{day}/manifest.json", "files": "body.files", **(manifest or {})}
    return Completing({"pattern": "o/{day}/{name}.csv", "manifest": given, "every": "60s", **more})


async def test_a_set_is_one_event_when_all_its_files_are_there() -> None:
    """Exactly the listed files are members, in key order; the manifest's captures are told."""
    bench = _bench()
    bench.put("o/1/b.csv")
    bench.put("o/1/a.csv")
    bench.put("o/1/unlisted.csv")
    made = bench.manifest(M, "b.csv", "./a.csv", "a.csv")

    assert await bench.scan() == [M]
    (found,) = bench.sets
    assert keys(found) == ["o/1/a.csv", "o/1/b.csv"]
    assert (found.match, found.time) == ({"day": "1"}, made.modified)
    assert found.id.startswith(f"{M}@")
    assert await bench.scan() == []
    assert await bench.wait(600) == []


async def test_it_waits_for_what_is_missing() -> None:
    """The last file that comes completes it, by notification or by scan."""
    bench = _bench()
    bench.manifest(M, "a.csv", "b.csv")
    assert await bench.scan() == []
    bench.put("o/1/a.csv")
    assert await bench.hint("o/1/a.csv") == []
    bench.put("o/1/b.csv")

    assert await bench.hint("o/1/b.csv") == [M]
    assert await bench.scan() == []
    assert bench.cursors["sets"].value == '{"v":1,"waiting":[],"broken":[],"more":0}'


async def test_files_that_no_pattern_matches_are_looked_for_at_the_interval() -> None:
    """A listed file counts although scans do not show it."""
    bench = _bench()
    bench.manifest(M, "a.csv", "data.bin")
    bench.put("o/1/a.csv")
    await bench.scan()
    bench.put("o/1/data.bin")

    assert await bench.scan() == []
    assert await bench.wait(60) == [M]


async def test_a_manifest_written_again_fires_again() -> None:
    """Also with the same content and the same files; a file written again alone does not."""
    bench = _bench()
    bench.put("o/1/a.csv")
    bench.manifest(M, "a.csv")
    await bench.scan()
    await bench.clock.advance(1)
    bench.put("o/1/a.csv", b"2")
    assert await bench.scan() == []
    bench.manifest(M, "a.csv")

    assert await bench.scan() == [M]
    assert len({found.id for found in bench.sets}) == 2


async def test_what_waits_survives_a_restart() -> None:
    """The cursor knows what waits since when, even if no scan shows it any more."""
    bench = _bench({"within": "1h"})
    bench.manifest(M, "a.csv")
    await bench.scan()
    await bench.wait(3000)
    bench.restart()
    assert bench.step.trouble() is None
    assert await bench.wait(600) == []
    trouble = bench.step.trouble()
    assert trouble is not None
    assert f"{M} is not complete within 1h" in trouble
    assert "1 of 1 files are missing: o/1/a.csv" in trouble
    bench.put("o/1/a.csv")

    assert await bench.wait(60) == [M]
    assert bench.step.trouble() is None
    assert M in bench.memory
    assert await bench.scan() == []


async def test_without_its_cursor_a_scan_finds_it_again() -> None:
    """What waits is not remembered as seen."""
    bench = _bench()
    bench.manifest(M, "a.csv")
    await bench.scan()
    bench.cursors.clear()
    bench.restart()
    bench.put("o/1/a.csv")

    assert await bench.scan() == [M]


async def test_an_overdue_manifest_is_named_with_the_first_that_is_missing() -> None:
    """Five names and how many more; the oldest manifest first; replaced, deleted or completed ones are not named."""
    bench = _bench({"within": "1h"})
    bench.manifest(M, *(f"f{n}.csv" for n in range(9)))
    bench.put("o/1/f0.csv")
    await bench.scan()
    await bench.wait(1800)
    bench.manifest("o/2/manifest.json", "z.csv")
    await bench.scan()
    await bench.wait(1860)
    trouble = bench.step.trouble()
    assert trouble is not None
    assert "8 of 9 files are missing: o/1/f1.csv, o/1/f2.csv, o/1/f3.csv, o/1/f4.csv, o/1/f5.csv and 3 more" in trouble
    await bench.wait(1800)
    assert "1 more manifests are overdue" in (bench.step.trouble() or "")
    bench.source.remove(M)
    bench.manifest("o/2/manifest.json", "z.csv", "y.csv")
    await bench.scan()
    await bench.wait(60)

    assert bench.step.trouble() is None
    await bench.wait(3600)
    assert "o/2/manifest.json" in (bench.step.trouble() or "")
    assert M not in (bench.step.trouble() or "")


async def test_an_unchanged_world_writes_nothing() -> None:
    """What waits causes no writes at scans and intervals."""
    bench = _bench()
    bench.manifest(M, "a.csv")
    await bench.scan()
    writes = bench.writes
    for _ in range(5):
        await bench.scan()
        await bench.wait(60)
    cursor = bench.cursors["sets"]
    assert writes == 1
    assert bench.cursors["sets"] == cursor
    assert [json.loads(cursor.value)["waiting"][0][n] for n in (0, 2)] == [M, 0]
    assert bench.writes == writes


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "cannot be evaluated"),
        (b'{"files": "a"}', "a text where a list"),
        (b'{"files": null}', "nothing where a list"),
        (b'{"files": [1]}', "a number in the list"),
        (b'{"files": [{"path": "a"}]}', "map it"),
        (b'{"files": ["../a"]}', "leads outside"),
        (b'{"files": ["x/../../a"]}', "leads outside"),
        (b'{"files": ["/etc/passwd"]}', "no relative path"),
        (b'{"files": ["s3://other/a"]}', "no relative path"),
        (b'{"files": ["a//b"]}', "no path of a file"),
        (b'{"files": ["a/"]}', "no path of a file"),
        (b'{"files": [""]}', "no path of a file"),
        (b'{"files": ["."]}', "no path of a file"),
        (b'{"files": ["a\\u0000"]}', "no key can be"),
        (b'{"files": ["\\ud800"]}', "not JSON"),
        (b'{"files": ["' + b"a" * 2000 + b'"]}', "longer than 1024"),
        (b" " * ((1 << 20) + 1), "1048576 are allowed"),
        (json.dumps({"files": ["a"] * 100_001}).encode(), "100001 files"),
    ],
)
async def test_a_broken_manifest_is_named_until_it_changes(body: bytes, words: str) -> None:
    """It is remembered, not retried, named also after a restart, and a good version fires."""
    bench = _bench()
    bench.put("o/1/a.csv")
    bench.put(M, body)
    assert await bench.scan() == []
    trouble = bench.step.trouble()
    assert trouble is not None
    assert trouble.startswith(f"{M} cannot be used: ")
    assert words in trouble
    assert M in bench.memory
    reads = bench.source.counts["read"]
    bench.restart()
    await bench.scan()
    await bench.wait(600)
    assert bench.source.counts["read"] == reads
    assert bench.step.trouble() == trouble
    bench.manifest(M, "a.csv")

    assert await bench.scan() == [M]
    assert bench.step.trouble() is None


async def test_a_broken_manifest_that_is_deleted_is_no_trouble() -> None:
    """It is looked for at the interval."""
    bench = _bench()
    bench.put(M, b"{")
    await bench.scan()
    bench.source.remove(M)
    await bench.wait(60)

    assert bench.step.trouble() is None
    bench.restart()
    assert bench.step.trouble() is None


async def test_a_manifest_that_is_empty_is_being_written() -> None:
    """Some storage shows an object before its content: that waits, and is named only when overdue."""
    bench = _bench({"within": "1h"})
    bench.put(M, b"")
    bench.put("o/1/a.csv")
    await bench.scan()
    assert bench.step.trouble() is None
    await bench.wait(3600)
    assert "it is empty" in (bench.step.trouble() or "")
    bench.manifest(M, "a.csv")

    assert await bench.wait(60) == [M]


async def test_a_manifest_may_list_nothing() -> None:
    """A day without files is complete."""
    bench = _bench()
    bench.manifest(M)

    assert await bench.scan() == [M]
    assert bench.sets[0].members == []


@pytest.mark.parametrize("base", ["manifest", "bucket"])
async def test_a_plain_list_has_one_path_per_line(base: str) -> None:
    """Line ends of both worlds, a byte order mark and URLs of the bucket are understood."""
    bench = _bench({"files": None, "base": base})
    start = "" if base == "manifest" else "o/1/"
    text = f"\ufeff{start}a.csv\r\n\n{start}b b.csv\nmem://bucket/elsewhere/c.csv"
    for key in ("o/1/a.csv", "o/1/b b.csv", "elsewhere/c.csv"):
        bench.put(key)
    bench.put(M, text.encode())
    bench.put("o/2/manifest.json", b"\xff\xfe")
    bench.put("o/3/manifest.json", b"\n\n")

    assert await bench.scan() == [M]
    assert keys(bench.sets[0]) == ["elsewhere/c.csv", "o/1/a.csv", "o/1/b b.csv"]
    assert "(and 1 more like this)" in (bench.step.trouble() or "")


async def test_files_that_are_too_small_are_missing() -> None:
    """An object that is still empty does not complete a set."""
    bench = _bench(min_size=2)
    bench.put("o/1/a.csv", b"1")
    bench.manifest(M, "a.csv")
    await bench.scan()
    assert await bench.wait(60) == []
    bench.put("o/1/a.csv", b"12")

    assert await bench.scan() == [M]


async def test_a_file_that_goes_before_the_set_is_complete_is_missing_again() -> None:
    """What was seen once is looked for once more at the end."""
    bench = _bench()
    bench.manifest(M, "a.csv", "b.csv")
    await bench.scan()
    bench.put("o/1/a.csv")
    await bench.scan()
    bench.source.remove("o/1/a.csv")
    bench.put("o/1/b.csv")
    assert await bench.hint("o/1/b.csv") == []
    bench.put("o/1/a.csv")

    assert await bench.wait(60) == [M]


async def test_a_manifest_that_is_written_while_it_is_read_is_read_again() -> None:
    """What is judged is one version, and the version that is remembered."""
    bench = _bench()
    bench.put("o/1/a.csv")
    bench.manifest(M, "a.csv", "b.csv")

    def meanwhile(prefix: str, _page: ObjectPage) -> None:
        bench.source.on_page = None
        bench.manifest(M, "a.csv")

    bench.source.on_page = meanwhile
    assert await bench.scan() == [M]
    assert keys(bench.sets[0]) == ["o/1/a.csv"]
    assert await bench.scan() == []


async def test_a_manifest_that_is_written_between_two_looks_at_it_is_read_again() -> None:
    """Bytes that may be of another version than was remembered are not judged."""
    bench = _bench()
    bench.put("o/1/a.csv")
    bench.manifest(M, "b.csv")
    read = bench.source.read

    async def written_meanwhile(key: str, start: int, length: int) -> bytes:
        bench.source.read = read  # type: ignore[method-assign]
        raw = await read(key, start, length)
        bench.manifest(M, "a.csv")
        return raw

    bench.source.read = written_meanwhile  # type: ignore[method-assign]
    assert [*await bench.scan(), *await bench.wait(0)] == [M]
    assert bench.memory[M].token == bench.source.listed(M).token
    assert await bench.scan() == []


async def test_what_comes_while_its_manifest_is_looked_at_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was missing at its turn, and seen before the end, is a member with the version that it has."""
    monkeypatch.setattr(manifest_look.Budget.__init__, "__defaults__", (3,))
    bench = _bench()
    for name in "bcdef":
        bench.put(f"o/1/{name}.csv")
    bench.manifest(M, *(f"{name}.csv" for name in "abcdef"))
    assert await bench.hint(M) == []
    bench.put("o/1/a.csv")

    assert [*await bench.hint("o/1/a.csv"), *await bench.wait(0)] == [M]
    assert keys(bench.sets[0]) == [f"o/1/{name}.csv" for name in "abcdef"]


async def test_a_manifest_may_be_in_any_folder() -> None:
    """A name without a slash lies beside its files."""
    bench = Completing({"manifest": {"name": "_manifest", "files": "body.files"}})
    bench.put("x/y/a")
    bench.manifest("x/_manifest", "y/a")

    assert await bench.scan() == ["x/_manifest"]


async def test_the_real_expression_language_reads_manifests() -> None:
    """CEL maps objects to paths; its errors become the sentence, and text that it cannot take is refused."""
    bench = _bench({"files": "body.entries.map(e, e.url)"})
    bench.compile = compile_function
    bench.restart()
    bench.put("o/1/a.csv")
    bench.put(M, b'{"entries": [{"url": "mem://bucket/o/1/a.csv"}]}')
    bench.put("o/2/manifest.json", b'{"entries": [{"path": "a"}]}')
    bench.put("o/3/manifest.json", b'{"entries": [{"url": "a\\u0000b"}]}')

    assert await bench.scan() == [M]
    assert isinstance(bench.step, Manifests)
    assert "o/2/manifest.json cannot be used" in (bench.step.trouble() or "")
    assert "(and 1 more like this)" in (bench.step.trouble() or "")
