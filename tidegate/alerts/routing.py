"""Who is told: which routes take an alert. Compiled with the rules, so that one transaction asks one configuration.

Pure. Without routes nothing is asked of anybody (`active` is False), and raising alerts costs nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from config.model import AlertRoute, ServiceConfig
from tidegate.alerts.alert import SEVERITIES, Alert

NO_TAGS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AlertRules:
    """The routes of one configuration, and the tags of what alerts are about."""

    routes: Mapping[str, AlertRoute] = field(default_factory=dict)
    base_url: str = ""
    service: str = ""
    sensor_tags: Mapping[str, frozenset[str]] = field(default_factory=dict)
    trigger_tags: Mapping[str, frozenset[str]] = field(default_factory=dict)
    pipeline_tags: Mapping[str, frozenset[str]] = field(default_factory=dict)
    dataset_tags: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Say whether anybody is told of anything."""
        return bool(self.routes)

    def tags(
        self, *, sensor: str = "", trigger: str | None = "", pipeline: str = "", dataset: str = ""
    ) -> frozenset[str]:
        """Return the tags of all that is named."""
        return (
            self.sensor_tags.get(sensor, NO_TAGS)
            | self.trigger_tags.get(trigger or "", NO_TAGS)
            | self.pipeline_tags.get(pipeline, NO_TAGS)
            | self.dataset_tags.get(dataset, NO_TAGS)
        )

    def taking(self, alert: Alert) -> Sequence[AlertRoute]:
        """Return the routes that take an alert. One that ends something is taken by those that were told of it."""
        return [route for route in self.routes.values() if takes(route, alert)]


def takes(route: AlertRoute, alert: Alert) -> bool:
    """Say whether a route is to tell of an alert. What ends goes to all who may have told of its beginning."""
    if alert.kind not in route.events:
        return False
    if not alert.ends and SEVERITIES.index(alert.severity) < SEVERITIES.index(route.severity):
        return False
    for label, patterns in route.match.items():
        values = alert.tags if label == "tag" else (getattr(alert, label),)
        if not any(value and fnmatchcase(value, pattern) for value in values for pattern in patterns):
            return False
    return True


def compile_alerts(config: ServiceConfig) -> AlertRules:
    """Compile the routes of a checked configuration."""
    sensors = {name: frozenset(entry.options.tags) for name, entry in config.sensors.items()}
    return AlertRules(
        routes=config.alerts,
        base_url=config.base_url,
        service=config.name,
        sensor_tags=sensors,
        trigger_tags={
            name: NO_TAGS.union(*(sensors.get(source.sensor, NO_TAGS) for source in trigger.on))
            for name, trigger in config.triggers.items()
        },
        pipeline_tags={
            name: frozenset(definition.tags).union(*(task.tags for task in definition.tasks))
            for name, definition in config.pipelines.items()
        },
        dataset_tags={name: frozenset(entry.tags) for name, entry in config.datasets.items()},
    )
