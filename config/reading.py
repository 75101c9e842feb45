"""A configuration while it is read: the merged tree, the references in it, and validation with places.

In flow the tree and option models, out flow validated models and, in the report, every problem at its place. Values
that a check cannot know (secrets that are not there) are placeholders; what fails only because of them is not reported.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final, TypeVar, cast

from pydantic import BaseModel, ValidationError

from config.problems import Mark, Path, Report, known_names
from config.typewalk import keys_of, models_at, secret_paths
from config.wording import worded
from config.yaml import Entry, Items, Node, Scalar, Table
from pipelines.references import BadReference, Find, Reference, finder, has_reference, replaced, whole_reference

PLACEHOLDER: Final = "cGxhY2Vob2xkZXItZm9yLWEtc2VjcmV0LXRoYXQtaXMtbm90LWhlcmU="  # base64, as many secrets are
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(slots=True)
class Reading:
    """One load. `strict` False: references that lead nowhere become placeholders instead of problems."""

    root: Table
    report: Report
    environ: Mapping[str, str]
    base: FilePath
    strict: bool = True
    unknown: set[Path] = field(default_factory=set)  # places whose value is a placeholder
    read: set[FilePath] = field(default_factory=set)  # files that references named

    def node(self, path: Path) -> Node | None:
        """Return the node at a path, None when there is none."""
        found, node = descend(self.root, path)
        return node if found == len(path) else None

    def table(self, path: Path) -> dict[str, Node]:
        """Return the entries of the map at a path; nothing when it is absent; anything else is reported."""
        node = self.node(path)
        if node is None or (isinstance(node, Scalar) and node.value is None):
            return {}
        if not isinstance(node, Table):
            self.problem(path, f"{shown(node)} is not a map", "write `name: {…}` entries")
            return {}
        return {key: entry.node for key, entry in node.entries.items() if not key.startswith("x-")}

    def problem(self, path: Path, message: str, remedy: str = "", *, key: bool = False) -> None:
        """Report what is wrong at a path (at its key when `key`), unless a placeholder is to blame."""
        if any(path[: len(place)] == place for place in self.unknown):
            return
        self.report.add(place_of(self.root, path, key=key), path, message, remedy)

    def data(self, node: Node, path: Path, *, template: bool = False) -> Any:
        """Return the plain value of a node with its references replaced."""
        if isinstance(node, Table):
            return {key: self.data(entry.node, (*path, key), template=template) for key, entry in node.entries.items()}
        if isinstance(node, Items):
            return [self.data(item, (*path, index), template=template) for index, item in enumerate(node.items)]
        if not isinstance(node.value, str):
            return node.value
        return self._found(path, lambda: replaced(node.value, self._find(path), template=template))

    def validate(
        self,
        kind: type[_Model],
        path: Path,
        node: Node | None = None,
        *,
        without: str = "",
        template: bool | Collection[str] = False,
    ) -> _Model | None:
        """Return the model of the map at `path`, None when it does not fit (reported).

        `without` is a key to leave out; `template` says that its texts, or those below these keys of it, will be
        evaluated as templates.
        """
        at = node if node is not None else self.node(path)
        if at is None:
            at = Table(place_of(self.root, path), {})
        if not isinstance(at, Table):
            self.problem(path, f"{shown(at)} is not a map", "write `{key: value}`")
            return None
        table = Table(at.mark, {k: v for k, v in at.entries.items() if k != without and not k.startswith("x-")})
        before = len(self.report)
        plain = {
            key: self.data(
                entry.node, (*path, key), template=template if isinstance(template, bool) else key in template
            )
            for key, entry in table.entries.items()
        }
        data = self.secrets(kind, plain, table, path)
        try:
            model = kind.model_validate(data, context={"written": True})
        except ValidationError as error:
            self._explain(kind, data, error, table, path)
            return None
        return model if len(self.report) == before else None

    def secrets(self, kind: Any, data: Any, node: Node, path: Path) -> Any:
        """Return the data with the references of secret-typed fields filled in; a secret written out is reported."""
        filled = data
        for place in secret_paths(kind, data, ()):
            found, leaf = descend(node, place)
            if found < len(place) or not isinstance(leaf, Scalar) or not isinstance(leaf.value, str):
                continue
            where = (*path, *place)
            secret = self.secret(leaf, where)
            if secret is not None:
                filled = _put(filled, place, secret)
        return filled

    def secret(self, leaf: Scalar, path: Path) -> str | None:
        """Return the value of a secret, None when it is written out (reported) or was replaced already."""
        if has_reference(leaf.text):
            return None
        try:
            reference = whole_reference(leaf.text)
        except BadReference as error:
            self.report.add(leaf.mark, path, str(error), error.hint)
            return None
        if reference is None:
            self.report.add(
                leaf.mark,
                path,
                "a secret is written out",
                "name where it comes from: `env:NAME` or `file:/path` (and change it: it has been in a file)",
            )
            return None
        return self._found(path, lambda: self._find(path)(reference))

    def _find(self, path: Path) -> Find:
        look = finder(self.environ, self.base)

        def find(reference: Reference) -> str:
            if reference.scheme == "file":
                self.read.add(self.base / reference.name)
            try:
                return look(reference)
            except BadReference:
                if self.strict:
                    raise
                self.unknown.add(path)
                return PLACEHOLDER

        return find

    def _found(self, path: Path, look: Any) -> str:
        try:
            return cast("str", look())
        except BadReference as error:
            self.problem(path, str(error), error.hint)
            self.unknown.add(path)
            return PLACEHOLDER

    def _explain(self, kind: type[BaseModel], data: Any, error: ValidationError, node: Table, path: Path) -> None:
        found_errors = error.errors(include_url=False, include_context=True)
        parents = {item["loc"][:length] for item in found_errors for length in range(len(item["loc"]))}
        for item in found_errors:
            if item["type"] == "too_short" and item["loc"] in parents:
                continue  # only because its elements do not fit
            kept = item["type"] in {"missing", "extra_forbidden"}
            place = _place(node, item["loc"], keep_last=kept)
            where = (*path, *place)
            if item["type"] == "extra_forbidden":
                known = [key for model in models_at(kind, data, place[:-1]) for key in keys_of(model)]
                self._report_at(node, place, where, "unknown key", known_names(str(place[-1]), known), key=True)
                continue
            if item["type"] == "union_tag_invalid":
                tag = str(item.get("ctx", {}).get("discriminator", "")).strip("'")
                place, where = (*place, tag), (*where, tag)
            found, leaf = descend(node, place)
            text = _text(leaf) if found == len(place) else ""
            if any(place == secret for secret in secret_paths(kind, data, ())):
                text = ""
            if item["type"] == "missing":
                remedy = _described(models_at(kind, data, place[:-1]), str(place[-1]))
                message, hint = f"`{place[-1]}` is missing", remedy or f"add `{place[-1]}:`"
            else:
                message, hint = worded(cast("Mapping[str, Any]", item), text)
            self._report_at(node, place, where, message, hint)

    def _report_at(
        self, node: Table, place: Path, where: Path, message: str, remedy: str, *, key: bool = False
    ) -> None:
        if any(where[: len(spot)] == spot for spot in self.unknown):
            return
        found, _ = descend(node, place)
        mark = place_of(node, place, key=key) if found else place_of(self.root, where, key=key)
        self.report.add(mark, where, message, remedy)


def descend(node: Node, path: Path) -> tuple[int, Node]:
    """Follow a path as far as it goes; return how many steps were found and the node reached."""
    for count, step in enumerate(path):
        if isinstance(node, Table) and isinstance(step, str) and step in node.entries:
            node = node.entries[step].node
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
        else:
            return count, node
    return len(path), node


def place_of(root: Table, path: Path, *, key: bool = False) -> Mark:
    """Return where a path stands: a value's own place, a map's or list's key, the nearest parent when it is absent."""
    mark = root.mark
    node: Node = root
    for index, step in enumerate(path):
        if isinstance(node, Table) and isinstance(step, str) and step in node.entries:
            entry: Entry = node.entries[step]
            node = entry.node
            last = index == len(path) - 1
            mark = node.mark if isinstance(node, Scalar) and not (key and last) else entry.mark
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
            mark = node.mark
        else:
            return mark
    return mark


def shown(node: Node) -> str:
    """Return a node in a few words, for a message."""
    if isinstance(node, Scalar):
        return f"`{node.text[:60]}`" if node.text else "an empty value"
    return "a list" if isinstance(node, Items) else "a map"


def _text(node: Node | None) -> str:
    return shown(node) if node is not None else ""


def _place(node: Node, loc: Iterable[str | int], *, keep_last: bool) -> Path:
    """Return a pydantic location as a path of the file: steps that are not in the file (tags of unions) fall out."""
    steps = tuple(loc)
    place: Path = ()
    for index, step in enumerate(steps):
        found, _ = descend(node, (*place, step))
        if found == len(place) + 1 or (keep_last and index == len(steps) - 1):
            place = (*place, step)
    return place


def _put(data: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    copy: Any = dict(data) if isinstance(data, Mapping) else list(data)
    copy[path[0]] = _put(copy[path[0]], path[1:], value)
    return copy


def _described(models: Iterable[type[BaseModel]], key: str) -> str:
    """Return what a missing field would hold, from its description or its type's."""
    for model in models:
        for name, info in model.model_fields.items():
            if key in {name, info.alias}:
                texts = [info.description] + [
                    (getattr(item, "json_schema", None) or {}).get("description") for item in info.metadata
                ]
                said = [text for text in texts if text]
                if said:
                    return f"add `{key}:` {said[0]}" + (f" ({said[1]})" if len(said) > 1 else "")
    return ""
