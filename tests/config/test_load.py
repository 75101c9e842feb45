"""Loading good configurations: merging, defaults, references, hashes, and what becomes of each section."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from config.check import check
from config.load import assert_own_package, load_config
from config.model import ServiceConfig, Telemetry
from config.problems import ConfigProblems
from pipelines.datasets.definition import DatasetDef
from pipelines.pipeline import Param
from pipelines.task import Retries
from sensors.units import StartAt
from tests.config.kinds import TideOptions, Token, no_pipelines, pipeline_of, sample_kinds
from triggers.trigger import Paused, Repeat, RunRule, Source, WhenBusy

Write = Callable[..., Path]

SENSOR = "sensors: {gauge: {kind: tide, path: ./x, start: now}}\n"
PIPELINE = "pipelines: {tell: {engine: call, url: http://x.test}}\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a configuration file and return its path."""

    def one(text: str, name: str = "tidegate.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return one


def _load(
    *paths: Path, overlays: tuple[Path, ...] = (), environ: Mapping[str, str] | None = None, **more: Any
) -> ServiceConfig:
    arguments = {"load": no_pipelines, **sample_kinds(), **more}
    return load_config(paths, overlays, environ=environ or {}, **arguments)


def _problems(
    *paths: Path, overlays: tuple[Path, ...] = (), environ: Mapping[str, str] | None = None, **more: Any
) -> list[str]:
    with pytest.raises(ConfigProblems) as raised:
        _load(*paths, overlays=overlays, environ=environ, **more)
    return [f"{problem.line}:{problem.column} {problem.path}: {problem.message}" for problem in raised.value.problems]


def test_an_empty_file_is_a_service(write: Write, tmp_path: Path) -> None:
    """Everything has a default; paths are absolute and start beside the file."""
    config = _load(write(""))

    assert (config.name, config.listen, config.base) == ("tidegate", "127.0.0.1:8080", tmp_path)
    assert config.store == f"sqlite:///{tmp_path}/.tidegate/tidegate.db"
    assert config.state_dir == tmp_path / ".tidegate"
    assert config.files == (tmp_path / "tidegate.yaml",)
    assert config.telemetry == Telemetry()


def test_the_service_section(write: Write, tmp_path: Path) -> None:
    """Every key of `service` and `telemetry` arrives, in seconds and bytes."""
    config = _load(
        write(
            """
            service:
              name: orders-gate
              base: ..
              listen: "[::1]:9000"
              admin_listen: localhost:9001
              store: postgresql://gate:${env:PW}@db/gate
              state_dir: /var/lib/gate
              retention: {events: 1d, runs: 2d, decisions: 3h}
              limits: {body: 2MiB, inline: 1KiB, backlog: 7, workers: 3, read_timeout: 500ms}
              dispatch: {lease: 10s, grace: 1s, runs: 9, poll: 100ms}
              network: {allow: [10.0.0.0/8, "::1"]}
            telemetry:
              otlp: {endpoint: "http://127.0.0.1:4318", headers: {Authorization: "Bearer ${env:PW}"}}
              sample: 0.5
            """
        ),
        environ={"PW": "geheim"},
    )

    assert (config.name, config.base, config.listen, config.admin_listen) == (
        "orders-gate",
        tmp_path.parent,
        "[::1]:9000",
        "localhost:9001",
    )
    assert (config.store, config.state_dir) == ("postgresql://gate:geheim@db/gate", Path("/var/lib/gate"))
    assert (config.retention.events, config.retention.runs, config.retention.decisions) == (86_400, 172_800, 10_800)
    assert (config.limits.body, config.limits.inline, config.limits.backlog) == (2 * 2**20, 1024, 7)
    assert (config.limits.workers, config.limits.read_timeout) == (3, 0.5)
    assert (config.dispatch.lease, config.dispatch.grace, config.dispatch.runs, config.dispatch.poll) == (10, 1, 9, 0.1)
    assert config.network_allow == ("10.0.0.0/8", "::1/128")
    assert config.telemetry == Telemetry(
        endpoint="http://127.0.0.1:4318", headers={"Authorization": "Bearer geheim"}, sample=0.5
    )
    assert "geheim" not in repr(config)


def test_sensors_take_defaults_that_their_kind_knows(write: Write) -> None:
    """`defaults.sensor` fills in what an entry lacks; its own values win."""
    config = _load(
        write(
            """
            defaults: {sensor: {every: 1m, start: beginning}}
            sensors:
              one: {kind: tide, path: ./a}
              two: {kind: tide, path: ./b, every: 2s, start: -7d, enabled: false, paused: drop}
            """
        )
    )

    one, two = config.sensors["one"].options, config.sensors["two"].options
    assert isinstance(one, TideOptions)
    assert isinstance(two, TideOptions)
    assert (one.every, one.start) == (60.0, StartAt("beginning"))
    assert (two.every, two.start, two.enabled, two.paused) == (2.0, StartAt("back", back=604_800.0), False, "drop")


def test_defaults_that_nobody_knows_are_errors(write: Write) -> None:
    """A default that no kind and no task has is an unknown key, at its own place."""
    assert _problems(write("defaults: {sensor: {evry: 1m}, task: {timeot: 1h}, x-mine: 1, tsk: {}}")) == [
        "1:21 defaults.sensor.evry: no kind of sensor knows this key",
        "1:39 defaults.task.timeot: not a default for tasks",
        "1:63 defaults.tsk: unknown key",
    ]


def test_triggers_become_rules(write: Write) -> None:
    """Every key of a trigger arrives; one entry of `on` and `run` may stand without its list."""
    config = _load(
        write(
            SENSOR
            + PIPELINE
            + """
triggers:
  short: {on: {sensor: gauge}, run: {pipeline: tell}}
  long:
    on:
      - {sensor: gauge, type: tide.high, filter: {exact: {subject: a}}}
      - {sensor: tidegate, types: [tidegate.run.failed, tidegate.run.late]}
    when: event.subject != null
    each: event.data.parts
    run:
      - {pipeline: tell, key: item.id, lane: event.sensor, partition: event.subject,
         params: {a: "${{ item }}"}, key_scope: pipeline}
      - {pipeline: tell, key: "${{ event.id }}"}
    repeat: skip
    when_busy: cancel_running
    missing_field: false
    enabled: false
    paused: hold
"""
        )
    )

    short, long = config.triggers["short"], config.triggers["long"]
    assert short.on == (Source(sensor="gauge"),)
    assert short.runs == (RunRule(pipeline="tell"),)
    assert (short.repeat, short.when_busy, short.missing_field_is_error, short.enabled) == (
        Repeat.RETRY_FAILED,
        WhenBusy.QUEUE,
        True,
        True,
    )
    assert long.on == (
        Source(sensor="gauge", types=("tide.high",), filter={"exact": {"subject": "a"}}),
        Source(sensor="tidegate", types=("tidegate.run.failed", "tidegate.run.late")),
    )
    assert (long.when, long.each) == ("event.subject != null", "event.data.parts")
    assert long.runs[0] == RunRule(
        pipeline="tell",
        params={"a": "${{ item }}"},
        key="item.id",
        partition="event.subject",
        lane="event.sensor",
        key_scope="pipeline",
    )
    assert (long.repeat, long.when_busy, long.paused) == (Repeat.SKIP, WhenBusy.CANCEL_RUNNING, Paused.HOLD)
    assert (long.missing_field_is_error, long.enabled) == (False, False)
    assert len({short.version, long.version}) == 2


def test_pipelines_in_yaml(write: Write) -> None:
    """Tasks, a one-task pipeline and a Python one with what the entry lays over it."""
    config = _load(
        write(
            """
            defaults: {task: {timeout: 1h, retries: {attempts: 3, backoff: 1s}}}
            datasets: {daily: {uri: "duckdb://x.duckdb/daily"}}
            pipelines:
              model:
                params: {day: {type: date, default: 2026-01-31}, files: {type: list, required: true}}
                concurrency: 2
                max_tasks: 4
                deadlines: {start_within: 1m, finish_by: "07:00"}
                tags: [finance]
                tasks:
                  fetch: {engine: call, url: "http://x.test/${{ params.day }}", outputs: daily}
                  build: {engine: call, url: http://x.test, needs: [fetch], upstream: all_done, on_failure: continue,
                          retries: 1, timeout: 5m, tags: [slow]}
              single: {engine: call, url: http://x.test, timeout: 7s, concurrency: 1, tags: [a]}
              coded: {python: "my.module:pipeline", concurrency: 9}
            """
        ),
        load=pipeline_of("a", "b", params={"p": Param(type="int")}),
    )

    model, single, coded = (config.pipelines[name] for name in ("model", "single", "coded"))
    assert model.params == {"day": Param(type="date", default="2026-01-31"), "files": Param(type="list", required=True)}
    assert (model.concurrency, model.max_tasks, model.start_within, model.finish_by) == (2, 4, 60.0, "07:00")
    fetch, build = model.tasks
    assert (fetch.options, fetch.outputs) == ({"url": "http://x.test/${{ params.day }}"}, ("daily",))
    assert (fetch.timeout, fetch.retries) == (3_600.0, Retries(attempts=3, backoff=1.0))
    assert (build.needs, build.upstream, build.on_failure) == (("fetch",), "all_done", "continue")
    assert (build.timeout, build.retries.attempts, build.tags) == (300.0, 1, ("slow",))
    assert [(task.name, task.engine, task.timeout, task.tags) for task in single.tasks] == [
        ("single", "call", 7.0, ("a",))
    ]
    assert (single.concurrency, single.params) == (1, None)
    assert (coded.name, coded.concurrency, [task.name for task in coded.tasks]) == ("coded", 9, ["a", "b"])
    assert coded.params == {"p": Param(type="int")}


def test_the_other_sections(write: Write) -> None:
    """Alerts, connections and datasets are validated and kept as data; `x-…` keys are the writer's own."""
    write("key\n", "key.p8")
    config = _load(
        write(
            """
            x-anything: [1, 2]
            alerts: {oncall: {to: "${env:URL}", events: [run_failed, resolved], match: {severity: error}}}
            connections:
              wh: {kind: snowflake, account: org, user: u, private_key: "file:key.p8", x-note: mine}
              shop: {kind: postgresql, host: h, database: shop, password: "${env:URL}"}
            datasets: {daily: {uri: "snowflake://org/analytics.daily", connection: wh}}
            """
        ),
        environ={"URL": "https://alert.test/x"},
    )

    route = config.alerts["oncall"]
    assert (route.to, route.severity, route.match) == (("https://alert.test/x",), "error", {})
    assert route.events == {"run_failed", "resolved"}
    assert "alert.test" not in repr(route)
    assert config.connections["wh"]["private_key"] == "key"
    assert config.connections["shop"]["password"] == "https://alert.test/x"
    assert config.datasets["daily"] == DatasetDef(name="daily", uri="snowflake://org/analytics.daily", connection="wh")


def test_secrets_reach_the_options(write: Write, tmp_path: Path) -> None:
    """Whole references in secret-typed fields and `${…}` in any text bring the value; it shows in no repr."""
    (tmp_path / "token").write_text("from-file\n")
    text = """
    sensors:
      one: {kind: tide, path: "${env:WHERE:-./x}", start: now,
            verify: {scheme: token, secret: ["env:TOKEN", "file:token"]}}
      two: {kind: tide, path: ./x, start: now, headers: {a: "Bearer ${env:TOKEN}"}}
      three: {kind: tide, path: ./x, start: now, verify: {scheme: token, secret: "${env:NONE:-fallback}"}}
    """
    config = _load(write(text), environ={"TOKEN": "from-env"})

    one, two, three = (config.sensors[name].options for name in ("one", "two", "three"))
    assert isinstance(one, TideOptions)
    assert isinstance(one.verify, Token)
    assert isinstance(one.verify.secret, tuple)
    assert [secret.get_secret_value() for secret in one.verify.secret] == ["from-env", "from-file"]
    assert isinstance(two, TideOptions)
    assert two.headers["a"].get_secret_value() == "Bearer from-env"
    assert isinstance(three, TideOptions)
    assert isinstance(three.verify, Token)
    assert "from-env" not in repr(config)
    assert "fallback" not in repr(config)
    assert tmp_path / "token" in config.files


def test_tasks_keep_references_as_written(write: Write) -> None:
    """A run stores its definition, so the options of tasks hold no secret's value, only the reference to it."""
    text = (
        'pipelines: {tell: {engine: call, url: "http://${env:HOST}/", token: "env:TOKEN", '
        'headers: {a: "x ${env:TOKEN}"}}}'
    )

    config = _load(write(text), environ={"HOST": "x.test", "TOKEN": "geheim"})

    assert config.pipelines["tell"].tasks[0].options == {
        "url": "http://${env:HOST}/",
        "token": "${env:TOKEN}",
        "headers": {"a": "x ${env:TOKEN}"},
    }
    assert (
        _problems(write(text), environ={"HOST": "x.test"})
        == [
            "1:83 pipelines.tell.headers.a: the environment variable TOKEN is not set",
            "1:59 pipelines.tell.token: the environment variable TOKEN is not set",
        ]
        or len(_problems(write(text), environ={"HOST": "x.test"})) == 2
    )


def test_a_check_needs_no_secret(write: Write) -> None:
    """Without any environment the check finds only real problems: not missing values, nor what they would decide."""
    text = """
    service: {store: "postgresql://gate:${env:PW}@db/gate", dispatch: {runs: "${env:RUNS}"}}
    sensors:
      gauge: {kind: tide, path: ./x, start: "${env:START}", verify: {scheme: token, secret: "file:/run/nowhere"}}
    pipelines: {tell: {engine: call, url: "http://${env:HOST}/", token: "env:TOKEN"}}
    triggers: {t: {on: {sensor: gauge}, run: {pipeline: tell}}}
    """
    path = write(text)

    assert check([path], environ={}, load=no_pipelines, **sample_kinds()) == []
    assert len(_problems(path)) == 6


def test_files_merge_left_to_right(write: Write) -> None:
    """Maps merge key by key, later files win; lists are replaced; an overlay's null takes a key away."""
    first = write("service: {name: a, listen: '127.0.0.1:1'}\n" + SENSOR, "a.yaml")
    second = write("service: {name: b}\nsensors: {other: {kind: tide, path: ./y, start: now, tags: [x, y]}}", "b.yaml")
    overlay = write("service: {name: c}\nsensors: {gauge: null, other: {every: 9s, tags: [z]}}", "prod.yaml")

    merged = _load(first, second)
    laid_over = _load(first, second, overlays=(overlay,))

    assert (merged.name, merged.listen, set(merged.sensors)) == ("b", "127.0.0.1:1", {"gauge", "other"})
    assert (laid_over.name, set(laid_over.sensors)) == ("c", {"other"})
    options = laid_over.sensors["other"].options
    assert isinstance(options, TideOptions)
    assert (options.path, options.every, options.tags) == ("./y", 9.0, ("z",))


def test_one_name_in_two_files_of_a_layer(write: Write) -> None:
    """The same sensor in two files of one layer is an error that names both places; an overlay may change it."""
    first, second = write(SENSOR, "a.yaml"), write(SENSOR, "b.yaml")

    with pytest.raises(ConfigProblems) as raised:
        _load(first, second)

    assert str(raised.value) == (
        f"{second}:1:11 sensors.gauge: the name is defined twice in one layer (first: {first}:1:11), "
        "rename one, or lay the change over it with --overlay"
    )
    assert _load(first, overlays=(second,)).sensors.keys() == {"gauge"}


def test_problems_name_the_file_at_fault(write: Write) -> None:
    """After merging, a problem still stands in the file that it came from."""
    base = write(SENSOR, "a.yaml")
    overlay = write("sensors:\n  gauge:\n    every: soon\n", "prod.yaml")

    with pytest.raises(ConfigProblems) as raised:
        _load(base, overlays=(overlay,))

    assert [(p.file, p.line, p.column) for p in raised.value.problems] == [(str(overlay), 3, 12)]


def test_unreadable_files_are_all_named(write: Write, tmp_path: Path) -> None:
    """Missing files and files that are no YAML are reported together."""
    with pytest.raises(ConfigProblems) as raised:
        _load(tmp_path / "missing.yaml", write("a: [", "b.yaml"))

    assert [Path(problem.file).name for problem in raised.value.problems] == ["missing.yaml", "b.yaml"]


def test_the_hash_names_what_is_written(write: Write) -> None:
    """The hash changes with the text and not with values of secrets, comments or the writer's own keys."""
    text = SENSOR.replace("start: now", 'start: now, headers: {a: "${env:T}"}')
    first = _load(write(text), environ={"T": "one"}).hash

    assert _load(write(text), environ={"T": "two"}).hash == first
    assert _load(write("# other\nx-mine: 1\n" + text), environ={"T": "one"}).hash == first
    assert _load(write(text.replace("./x", "./y")), environ={"T": "one"}).hash != first
    assert _load(write(text.replace("{a:", "{x-a:")), environ={"T": "one"}).hash != first
    assert len(first) == 64


def test_a_rule_keeps_its_version_until_it_changes(write: Write) -> None:
    """A trigger's version depends on its own text alone."""
    rule = "triggers: {t: {on: {sensor: gauge}, run: {pipeline: tell}, when: 'event.id != \"%s\"'}}\n"
    first = _load(write(SENSOR + PIPELINE + rule % "a")).triggers["t"].version

    assert _load(write("service: {name: x}\n" + SENSOR + PIPELINE + rule % "a")).triggers["t"].version == first
    assert _load(write(SENSOR + PIPELINE + rule % "b")).triggers["t"].version != first


def test_a_sensor_that_cannot_be_built(write: Write) -> None:
    """What a kind's constructor refuses, and expressions that do not compile, are problems of the check."""
    assert _problems(
        write(
            "sensors:\n  a: {kind: tide, path: impossible, start: now}\n"
            "  b: {kind: tide, path: ., start: now, expression: bdy.x}\n"
        )
    ) == [
        "2:3 sensors.a: the path is impossible",
        "3:52 sensors.b.expression: nothing is named bdy here",
    ]


def test_plugins_that_cannot_be_used(write: Write, tmp_path: Path) -> None:
    """A plug-in that is missing or broken is a problem at its entry; others are found all the same."""
    write("api = 1\nsensors = []\nengines = []\n", "good.py")
    write("raise RuntimeError('no')\n", "bad.py")

    problems = _problems(write("service: {plugins: [./good.py, ./bad.py], listn: x}"), sensors=None, engines=None)

    assert any(problem.startswith("1:32 service.plugins[1]:") for problem in problems)
    assert "1:43 service.listn: unknown key" in problems


def test_a_default_for_every_kind_of_mistake_in_shape(write: Write) -> None:
    """Sections and entries of the wrong shape are reported, each once, and nothing raises."""
    text = """
sensors: [a]
triggers: {t: 5, u: {on: [], run: {}}, "a b": {on: {sensor: x}, run: {pipeline: y}}}
pipelines: {p: x, q: {}, r: {engine: call, python: "x:y"}, s: {tasks: {a: 1}}, t: {python: 5}}
connections: {c: {}}
datasets: {d: {uri: nowhere}, e: {uri: "a://b", connection: c2, freshness: {due: x}}}
alerts: {a: {to: x, events: [run_faild]}}
telemetry: 7
defaults: x
"""
    paths = [problem.split(": ")[0].split(" ")[1] for problem in _problems(write(text))]

    assert set(paths) == {
        "sensors",
        "triggers.t",
        "triggers.u.on",
        "triggers.u.run.pipeline",
        'triggers."a',
        "pipelines.p",
        "pipelines.q",
        "pipelines.r",
        "pipelines.s.tasks.a",
        "pipelines.t.python",
        "connections.c.kind",
        "datasets.d.uri",
        "datasets.e.connection",
        "datasets.e.freshness.due",
        "alerts.a.to",
        "alerts.a.events[0]",
        "telemetry",
        "defaults",
    }


def test_the_package_in_use_is_ours() -> None:
    """The package `config` that runs is the one beside `tidegate/`."""
    assert_own_package()


def test_another_config_package_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a foreign package of that name is in the way, the sentence says how to start instead."""
    import config

    monkeypatch.setattr(config, "__file__", "/elsewhere/config/__init__.py")

    with pytest.raises(RuntimeError, match="python -m tidegate"):
        assert_own_package()
