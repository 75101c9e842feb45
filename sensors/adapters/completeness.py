"""Which step says when objects are complete, made from a sensor's options.

In flow options that were checked, out flows the step, or None where objects count as soon as they are seen.
"""

from collections.abc import Callable

from sensors.adapters.completeness_options import CompletenessOptions, ManifestOptions, Polls, has_captures
from sensors.adapters.file_gate import FileGate, MarkerOpener
from sensors.adapters.manifest import Manifests
from sensors.adapters.manifest_gate import ManifestGate, ManifestOpener
from sensors.adapters.manifest_look import Form, ManifestLook
from sensors.adapters.marker import FolderMarker
from sensors.adapters.marks import Marks
from sensors.adapters.object_steps import Completeness
from sensors.adapters.objects import Listed, ObjectSource
from sensors.adapters.settled import Settled
from sensors.kind import SensorContext
from sensors.patterns import Pattern, compile_pattern


def make_completeness(
    options: CompletenessOptions,
    source: ObjectSource,
    context: SensorContext,
    pattern: Pattern | None,
    wanted: Callable[[Listed], bool],
) -> Completeness | None:
    """Make the step that the options ask for. `wanted` says which objects count (pattern, ignored names, size).

    Raises ValueError for an expression that is none.
    """
    marks = marks_of(options, pattern)
    if options.manifest is not None and marks is not None:
        return _by_manifest(options, options.manifest, marks, source, context, pattern)
    if marks is not None:
        if options.emits_sets:
            return FolderMarker(marks, pattern, wanted, source)
        return FileGate(marks, MarkerOpener(source), source, context.clock, options.every)
    if isinstance(options.settle, Polls) or options.settle > 0:
        return Settled(options.settle, options.every, source, context.clock)
    return None


def marks_of(options: CompletenessOptions, pattern: Pattern | None) -> Marks | None:
    """Return what knows the markers or manifests of these options; None where there are none."""
    if options.manifest is not None:
        return Marks(options.manifest.name, pattern, options.ignore, above=True)
    if options.marker is not None:
        return Marks(options.marker, pattern, options.ignore, above=not has_captures(options.marker))
    return None


def listed_prefix(options: CompletenessOptions) -> str:
    """Return the longest literal prefix that all files and all that completes them have, to narrow a listing by.

    Shorter than the pattern's own where markers or manifests lie elsewhere. Says nothing of `prefix`.
    """
    pattern = compile_pattern(options.pattern) if options.pattern is not None else None
    literal = pattern.prefix if pattern is not None else ""
    marks = marks_of(options, pattern)
    if marks is None:
        return literal
    pairs = zip(literal, marks.prefix, strict=False)
    same = next((n for n, (one, other) in enumerate(pairs) if one != other), min(len(literal), len(marks.prefix)))
    return literal[:same]


def _by_manifest(
    options: CompletenessOptions,
    manifest: ManifestOptions,
    marks: Marks,
    source: ObjectSource,
    context: SensorContext,
    pattern: Pattern | None,
) -> Completeness:
    files = None
    if manifest.files is not None:
        if context.compile is None:
            raise ValueError("`manifest.files` is an expression, and expressions are not offered here")
        files = context.compile(manifest.files, ("body",))
    look = ManifestLook(source, Form(files, manifest.base, options.min_size))
    manifests = Manifests(
        marks,
        look,
        source,
        context.clock,
        pattern=pattern,
        every=options.every,
        within=manifest.within,
        min_size=options.min_size,
    )
    if options.emits_sets:
        return manifests
    opener = ManifestOpener(manifests, look, source, options.min_size)
    return ManifestGate(manifests, opener, FileGate(marks, opener, source, context.clock, options.every))
