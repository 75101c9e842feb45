"""The walk of a listing whose prefix ends within a name, against a service that lists folders only."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from sensors.adapters.adls_walk import FEW, Walk, level_of, read_walk


@dataclass(frozen=True)
class Item:
    name: str
    is_directory: bool


def tree(files: set[str]) -> list[Item]:
    """Return files and the folders above them, as the service lists them."""
    folders = {name[:at] for name in files for at, char in enumerate(name) if char == "/"}
    return [Item(name, is_directory=name in folders) for name in sorted(files | folders)]


def listed(
    items: list[Item], folder: str, token: str | None, size: int, *, deep: bool
) -> tuple[list[Item], str | None]:
    """Answer as the service does: one page of a folder."""
    start = f"{folder}/" if folder else ""
    below = [item for item in items if item.name.startswith(start) and (deep or "/" not in item.name[len(start) :])]
    at = int(token or 0)
    return below[at : at + size], str(at + size) if at + size < len(below) else None


def walked(items: list[Item], prefix: str, size: int) -> tuple[list[str], int]:
    """Walk a prefix to its end; return the names in order of their coming, and the number of pages."""
    found: list[str] = []
    walk: Walk | None = Walk.begin(prefix)
    pages = 0
    while walk is not None:
        entries, more = listed(items, walk.folder, walk.token, size, deep=walk.deep)
        files, folders = level_of(entries, prefix, "")
        token, counts = walk.next(more, folders)
        found += [item.name for item in files] if counts else []
        walk = read_walk(token) if token is not None else None
        pages += 1
    return found, pages


NAMES = st.lists(st.text("ab=", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join)


@given(st.sets(NAMES, max_size=40), st.text("ab=/", max_size=6), st.integers(1, 7))
def test_each_file_comes_once(names: set[str], prefix: str, size: int) -> None:
    """Whatever prefix, tree and size of pages: all files that begin so come, each once, and nothing else."""
    items = tree(names)
    files = {item.name for item in items if not item.is_directory}
    found, _ = walked(items, prefix, size)
    if "//" in prefix or prefix.startswith("/"):
        assert set(found) <= {name for name in files if name.startswith(prefix)}
    else:
        assert sorted(found) == sorted(name for name in files if name.startswith(prefix))


def test_few_folders_are_listed_alone_and_many_as_one() -> None:
    """Up to a few fitting folders cost one call each; more cost no call each, and their siblings are filtered out."""
    few = tree({f"dt={n:03}/{m}" for n in range(FEW) for m in range(2)} | {f"other/{n}" for n in range(1000)})
    assert walked(few, "dt=", 5000)[1] == 1 + FEW
    many = tree({f"dt={n:03}/{m}" for n in range(FEW + 1) for m in range(2)} | {f"other/{n}" for n in range(1000)})
    assert walked(many, "dt=", 5000)[1] == 2


def test_a_token_is_read_as_it_was_written() -> None:
    """A token stands for all of a walk's state."""
    walk = Walk("a/b", deep=True, token="t", level="a", rest="r", folders=("a/c", "a/ü"))
    assert read_walk(walk.to_json()) == walk
