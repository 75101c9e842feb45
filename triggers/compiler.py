"""Compiling the pieces of a trigger: sources, expressions and run rules, with every problem collected."""

from collections.abc import Mapping, Sequence

from triggers.errors import RuleError
from triggers.expression import Expression
from triggers.match import Predicate, parse_filter
from triggers.pattern import Source
from triggers.template import compile_or_template, compile_template
from triggers.trigger import RunRule
from triggers.wish import CompiledRun

CompiledSource = tuple[str, frozenset[str], Predicate, str]  # sensor, types, predicate, where it stands


class Compiler:
    """Compiles pieces of one trigger; `errors` are the problems so far."""

    def __init__(self) -> None:
        self.errors: list[RuleError] = []

    def refuse(self, message: str, path: str, hint: str) -> None:
        """Note a problem."""
        self.errors.append(RuleError(message, path, hint))

    def expression(
        self, text: str | None, path: str, expect: str, scope: Mapping[str, str], *, varies: bool = False
    ) -> Expression | None:
        """Compile an expression field; `varies` refuses one that is the same for every event."""
        if text is None:
            return None
        try:
            found = compile_or_template(text, scope, path=path, expect=expect)
        except RuleError as error:
            self.errors.append(error)
            return None
        if varies and found.constant:
            word = path.rpartition(".")[2]
            self.refuse(f"{word} is the same for every event", path, f"name a field of the event, or leave {word} out")
        return found

    def source(self, source: Source, path: str) -> CompiledSource | None:
        """Compile what is listened to."""
        try:
            predicate = parse_filter(source.filter, f"{path}.filter")
        except RuleError as error:
            self.errors.append(error)
            return None
        return source.sensor, frozenset(source.types), predicate, path

    def runs(self, rules: Sequence[RunRule], scope: Mapping[str, str], place: str = "run") -> list[CompiledRun]:
        """Compile run rules."""
        runs = []
        for i, rule in enumerate(rules):
            path = place if len(rules) == 1 else f"{place}[{i}]"
            params = compile_template({}, scope)
            try:
                params = compile_template(rule.params, scope, path=f"{path}.params")
            except RuleError as error:
                self.errors.append(error)
            key = self.expression(rule.key, f"{path}.key", "string", scope, varies=True)
            partition = self.expression(rule.partition, f"{path}.partition", "string", scope)
            lane = self.expression(rule.lane, f"{path}.lane", "string", scope, varies=True)
            runs.append(CompiledRun(rule, i, path, params, key, partition, lane))
        return runs
