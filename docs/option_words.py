# ruff: noqa: INP001, E501, S105 - words for a script among documents, wrapped for readers of Markdown; no secret
"""What options mean, where their models say nothing; and the introductions of the generated pages."""

COMMON = {
    "enabled": "`false` leaves it out as if it were not there",
    "paused": "`hold` keeps what arrives for later, `drop` lets it go (counted)",
    "was": "the sensor's former name: its position and memory are taken over",
    "cursor": "what to do when the source changed: `keep` or `reset` the position",
    "tags": "words of your own, for filters and alerts",
}

WORDS = {
    "service.name": "enters consumer groups, lineage namespace and metrics",
    "service.listen": "where webhooks, API, console and metrics are served",
    "service.admin_listen": "splits API, console and metrics off to a second address",
    "service.store": "`sqlite:///path` or `postgresql://user@host/db`; by default a file in `state_dir`",
    "service.plugins": "Python files with sensor kinds and engines of your own",
    "service.base": "where relative paths start, itself relative to the folder of the first file",
    "service.state_dir": "what runs hand over between tasks, and the default store",
    "service.retention": "see below",
    "service.limits": "see below",
    "service.dispatch": "see below",
    "service.network": "see below",
    "service.retention.events": "events that no kept run was caused by",
    "service.retention.runs": "ended runs with their tasks and logs; a stub with ids and edges stays",
    "service.retention.decisions": "stored decisions",
    "service.retention.alerts": "alerts that are done with, and their messages",
    "service.limits.body": "the largest body of a request; larger ones are answered 413",
    "service.limits.inline": "content up to this size stands in the event's row, larger in `blobs`",
    "service.limits.header_bytes": "all headers of a request together",
    "service.limits.backlog": "batches that may wait for a commit before 429",
    "service.limits.waiting_runs": "runs that may be queued before sensors that read stop reading",
    "service.limits.backlog_bytes": "bytes that may wait for a commit before 429",
    "service.limits.read_timeout": "how long a sender may take for a request",
    "service.limits.workers": "processes for Python tasks",
    "service.limits.tasks_per_worker": "tasks after which a worker process is replaced",
    "service.limits.worker_memory": "what a worker may keep between two tasks; with more (a leak) it is replaced",
    "service.limits.task_memory": "what a Python task and all that it starts may use before it is killed; 0: any. "
    "A task's own `memory` goes before it. Pages of files that are mapped do not count",
    "service.dispatch.lease": "how long a claimed run belongs to a process that does not renew it",
    "service.dispatch.grace": "how long after a lease's end another process waits before it takes over",
    "service.dispatch.runs": "runs that one process holds at once",
    "service.dispatch.poll": "how often to look for runs that nobody hinted at",
    "service.network.allow": "private address ranges that outgoing calls may reach",
    "telemetry.otlp": "see below; without it nothing is exported, and `/metrics` still answers",
    "telemetry.sample": "the share of traces that begin here to export (0 to 1)",
    "telemetry.metrics_every": "how often metrics are exported",
    "telemetry.otlp.headers": "sent with every export, such as `authorization`",
    "alerts.NAME.match": "only what is about this; see below",
    "datasets.NAME.connection": "the name of a connection",
    "triggers.NAME.when": "a CEL expression; the rule fires where it is true",
    "triggers.NAME.each": "a CEL expression that gives a list: one decision per element, in scope as `item`",
    "triggers.NAME.repeat": "what a run key that was used before means: `retry_failed`, `skip` or `always`",
    "triggers.NAME.when_busy": "what to do while the lane is taken or the pipeline's concurrency is reached",
    "triggers.NAME.missing_field": "`false` lets a missing field be false; `error` makes it an `error` decision",
    "triggers.NAME.on.type": "one type, or a list; short for `types`",
    "triggers.NAME.on.types": "event types; without any, all",
    "triggers.NAME.on.filter": "CloudEvents Subscriptions dialect: `exact prefix suffix all any not`",
    "triggers.NAME.join": "parts that belong together by key; see below",
    "triggers.NAME.sequence": "parts that follow one another; see below",
    "triggers.NAME.count": "so many events of one key within a window; see below",
    "triggers.NAME.absent": "an event that ought to come, and does not; see below",
    "triggers.NAME.overdue": "what happens when a key of a join or sequence is overdue; see below",
    "triggers.NAME.join.of.NAME.type": "one type, or a list; short for `types`",
    "triggers.NAME.join.of.NAME.types": "event types; without any, all",
    "triggers.NAME.join.of.NAME.filter": "as in `on`",
    "triggers.NAME.join.of.NAME.by": "a CEL expression over `event`: the key under which parts meet; on every part, or on none",
    "triggers.NAME.join.of.NAME.when": "a CEL expression over `event`; other events are no part",
    "triggers.NAME.count.type": "one type, or a list; short for `types`",
    "triggers.NAME.count.types": "event types; without any, all",
    "triggers.NAME.count.filter": "as in `on`",
    "triggers.NAME.count.by": "a CEL expression over `event`: the key under which parts meet; on every part, or on none",
    "triggers.NAME.count.when": "a CEL expression over `event`; other events are no part",
    "triggers.NAME.absent.type": "one type, or a list; short for `types`",
    "triggers.NAME.absent.types": "event types; without any, all",
    "triggers.NAME.absent.filter": "as in `on`",
    "triggers.NAME.absent.by": "a CEL expression over `event`: the key under which parts meet; on every part, or on none",
    "triggers.NAME.absent.when": "a CEL expression over `event`; other events are no part",
    "triggers.NAME.absent.after.type": "one type, or a list; short for `types`",
    "triggers.NAME.absent.after.types": "event types; without any, all",
    "triggers.NAME.absent.after.filter": "as in `on`",
    "triggers.NAME.absent.after.by": "a CEL expression over `event`: the key under which parts meet; on every part, or on none",
    "triggers.NAME.absent.after.when": "a CEL expression over `event`; other events are no part",
    "triggers.NAME.join.of.NAME.take": "which event counts when the part comes twice: `first`, `latest` or `all`",
    "triggers.NAME.join.of": "the parts by name",
    "triggers.NAME.join.within": "how long a key has time: from its first part, or from when the calendar opened it",
    "triggers.NAME.join.until": "or: until this time of day in `timezone`, the next one after the key was opened",
    "triggers.NAME.join.timezone": "the IANA time zone of `until` and `opens`",
    "triggers.NAME.join.late": "what a part does that comes after its key fired or was overdue: `ignore`, `refire` or `alert`",
    "triggers.NAME.join.remember": "how long a key that is done with takes parts as late ones; `0` begins it anew at once",
    "triggers.NAME.join.by_time": "windows on the time at which events came (`received`), or on the source's own (`event`)",
    "triggers.NAME.join.lateness": "with `by_time: event`: how much later than its time an event may come",
    "triggers.NAME.sequence.of": "the parts by name",
    "triggers.NAME.sequence.within": "how long a key has time: from its first part, or from when the calendar opened it",
    "triggers.NAME.sequence.until": "or: until this time of day in `timezone`, the next one after the key was opened",
    "triggers.NAME.sequence.timezone": "the IANA time zone of `until` and `opens`",
    "triggers.NAME.sequence.late": "what a part does that comes after its key fired or was overdue: `ignore`, `refire` or `alert`",
    "triggers.NAME.sequence.remember": "how long a key that is done with takes parts as late ones; `0` begins it anew at once",
    "triggers.NAME.sequence.by_time": "windows on the time at which events came (`received`), or on the source's own (`event`)",
    "triggers.NAME.sequence.lateness": "with `by_time: event`: how much later than its time an event may come",
    "triggers.NAME.join.opens": "a calendar that opens keys although nothing came; see below",
    "triggers.NAME.join.require": "`all`, `4`, `4 of 6`, or CEL over the parts' names (`crm && (erp || fx)`) and `counts`",
    "triggers.NAME.join.opens.cron": "when a key is opened, in `timezone`",
    "triggers.NAME.join.opens.key": "a CEL expression over `now`: which key that is",
    "triggers.NAME.count.reach": "how many events; then they are used up",
    "triggers.NAME.count.within": "the length of the sliding window",
    "triggers.NAME.count.by_time": "as in a join",
    "triggers.NAME.count.lateness": "as in a join",
    "triggers.NAME.absent.for": "how long a silence may last while the sensor is healthy and caught up",
    "triggers.NAME.absent.after": "only after such an event: the other did not follow it",
    "triggers.NAME.overdue.alert": "tell alerts of it (`join_overdue`)",
    "triggers.NAME.overdue.run": "runs to start; `missing` names what has not come",
    "triggers.NAME.run.params": "parameters of the run; `${{ … }}` is evaluated once, when the rule fires",
    "triggers.NAME.run.key": "a CEL expression: the run's idempotency key; by default the trigger event's uid",
    "triggers.NAME.run.partition": "a CEL expression: the partition that the run is about",
    "triggers.NAME.run.lane": "a CEL expression: runs of one lane go one at a time, in arrival order",
    "triggers.NAME.run.key_scope": "`trigger`: a key counts for this rule; `pipeline`: for all rules of the pipeline",
    "pipelines.NAME.params": "parameters with types; without it a YAML pipeline takes any",
    "pipelines.NAME.concurrency": "runs of it under way at once; as its Python says, else 16",
    "pipelines.NAME.max_tasks": "tasks of one run under way at once; as its Python says, else 16",
    "pipelines.NAME.deadlines": "see below",
    "pipelines.NAME.params.NAME.type": "what the value must be",
    "pipelines.NAME.params.NAME.required": "`true`: a run without it is refused",
    "pipelines.NAME.params.NAME.default": "the value where none is given",
    "pipelines.NAME.deadlines.start_within": "how long a run may wait for its start",
    "pipelines.NAME.deadlines.finish_by": "the time of day by which it should be done: `07:00`, or "
    "`07:00 Europe/Oslo mon-fri`, or a map",
    "pipelines.NAME.tasks.NAME.needs": "tasks that come first",
    "pipelines.NAME.tasks.NAME.upstream": "which end of those lets it start",
    "pipelines.NAME.tasks.NAME.on_failure": "`continue` lets the run go on, and succeed, without it",
    "pipelines.NAME.tasks.NAME.retries": "see below; a number is short for `{attempts: …}`",
    "pipelines.NAME.tasks.NAME.timeout": "bounds one attempt; what hangs is killed",
    "pipelines.NAME.tasks.NAME.outputs": "names of datasets that it writes",
    "pipelines.NAME.tasks.NAME.retries.attempts": "repeats after a failed attempt",
    "pipelines.NAME.tasks.NAME.retries.backoff": "the first pause",
    "pipelines.NAME.tasks.NAME.retries.factor": "by which each pause is longer than the one before",
    "pipelines.NAME.tasks.NAME.retries.max_delay": "the longest pause",
    "pipelines.NAME.tasks.NAME.retries.jitter": "the share of a pause that is random",
    "sensors.files.on": "which changes are events",
    "sensors.s3.region": "the bucket's region; by default the environment's",
    "sensors.s3.assume_role": "a role to take on: `{role_arn, external_id, session_name, duration, endpoint_url}`",
    "sensors.s3.on": "which changes are events",
    "sensors.s3.manifest": "a file that lists those that belong together: `{name, files, base, within}`",
    "sensors.s3.credentials": "keys: `{access_key_id, secret_access_key, session_token}`; by default the SDK's chain",
    "sensors.s3.after": "`{do: move, copy, tag or delete, to, tags, when: succeeded or accepted}`",
    "sensors.s3.notifications": "`{sqs: …}`: the queue (URL, ARN or name) that tells at once where to look",
    "sensors.sqs.region": "the queue's region; by default the one in its URL or ARN, or the environment's",
    "sensors.sqs.endpoint_url": "of any server that speaks SQS; a URL as `queue` says it already",
    "sensors.sqs.addressing": "of buckets; has no effect here",
    "sensors.sqs.assume_role": "a role to take on: `{role_arn, external_id, session_name, duration, endpoint_url}`",
    "sensors.sqs.credentials": "keys: `{access_key_id, secret_access_key, session_token}`; by default the SDK's chain",
    "sensors.sqs.anonymous": "refused: a queue is not read unsigned",
    "sensors.rabbitmq.tls": "how the broker is known, with an amqps:// URL: `{ca, cert, key, verify}`",
    "sensors.rabbitmq.dead_letter": "`{exchange, routing_key}`: where poison is published as well, besides our own dead letters",
    "sensors.adls.on": "which changes are events",
    "sensors.adls.manifest": "a file that lists those that belong together: `{name, files, base, within}`",
    "sensors.adls.after": "`{do: move, copy, tag or delete, to, tags, when: succeeded or accepted}`",
    "sensors.adls.notifications": "`{queue, connection, emit}`: the storage queue to which Event Grid delivers; `emit: folder` makes a renamed folder one event",
    "sensors.http.method": "`GET`, or `POST` with `json` or `body`",
    "sensors.http.expect": "what new and changed items must be like: `{columns: {id: int, amount: number}, mode: at_least or exact}`; others are refused: no event, but a dead letter that says why",
    "sensors.http.auth": "who asks: `{scheme: bearer, token}`, `{scheme: basic, username, password}`, `{scheme: api_key, key, header or query}`, or `{scheme: oauth2, token_url, client_id, client_secret, scopes, audience, send: basic or body}`",
    "sensors.http.paging": "how pages follow, with `max_pages` (1000): `{by: link}`, `{by: cursor, next, param, into: query or json}`, `{by: offset, param, limit, limit_param, overlap: 1, more}`, or `{by: page, param, first: 1, size, size_param, more}`; `next` and `more` are CEL over body and headers",
    "sensors.webhook.methods": "HTTP methods that are accepted",
}

SECRET = "one secret, or several while one replaces the other: `env:NAME`, `file:/path` or text with `${env:NAME}`"
for _scheme in (
    *("bearer", "basic", "api-key", "hmac", "github", "gitlab"),
    *("standard-webhooks", "stripe", "slack", "shopify", "twilio"),
):
    WORDS[f"verify.{_scheme}.secret"] = SECRET
    WORDS[f"verify.{_scheme}.tolerance"] = "how far a signed timestamp may be from our clock, on both sides"
WORDS |= {
    "verify.basic.username": "the name that comes with the secret",
    "verify.api-key.header": "the header that carries the secret",
    "verify.jwt.algorithms": "which are taken; the token chooses nothing",
    "verify.mtls.carries": "what the header holds: `subject`, `certificate` (PEM, percent-encoded) or `xfcc` (Envoy)",
    "verify.hmac.header": "the header that carries the signature",
    "verify.hmac.algorithm": "the hash",
    "verify.hmac.encoding": "how the signature is written",
    "verify.hmac.prefix": "what stands before the signature in the header, such as `sha256=`",
    "verify.hmac.timestamp_header": "the header with unix seconds, where the sender signs one",
    "verify.hmac.template": "what is signed when there is a timestamp",
    "pipelines.NAME.on": "where its Python tasks run that do not say so themselves: `python` (here), `dask`, "
    "`dask:CONNECTION`, or a scheduler's `tcp://host:8786`",
    "engines.python.function": "`module:name`, or `file.py:name`",
    "engines.python.args": "arguments of its own, by name",
    "engines.python.sys_path": "folders to import from, besides the base folder",
    "engines.python.output": "the dataset that the returned DataFrame is written to: a name of `datasets`, or a URI",
    "engines.python.mode": "what becomes of what is there, where that differs from the dataset's entry: `replace`, "
    "`append`, `merge` or `soft_delete`",
    "engines.python.key": "columns by which `merge` and `soft_delete` know a row again, where the entry names none",
    "engines.python.checks": "checks of the returned DataFrame, before it is written",
    "engines.python.memory": "the most that the task and what it starts may use; over it they are killed, "
    "with an error that names both figures",
    "engines.python.events": "what the context's `events` are; write `${{ events }}`",
    "engines.python.in_loop": "call an `async def` in the service's own loop, for tasks that only wait; "
    "it must not block, and what it prints goes to the service's output",
    "engines.dask.scheduler": "the scheduler's address, `tcp://host:8786`; else `connection`",
    "engines.dask.connection": "an entry of `connections` of kind `dask` (`scheduler`, `spool`, `base`, `tls_ca`, "
    "`tls_cert`, `tls_key`); empty: the entry `dask`, else the environment's DASK_SCHEDULER_ADDRESS",
    "engines.dask.base": "the folder on the workers that modules are imported from; empty: the same as here",
    "engines.dask.spool": "a folder that service and workers share, for values over 256 KiB; without one they are sent "
    "along, up to 64 MiB",
    "engines.dask.resources": "what a worker must have free, in Dask's words: `{GPU: 1}`",
    "engines.dask.function": "as of `python`",
    "engines.dask.args": "as of `python`",
    "engines.dask.sys_path": "as of `python`, on the workers",
    "engines.dask.output": "as of `python`; written by the worker",
    "engines.dask.mode": "as of `python`",
    "engines.dask.key": "as of `python`",
    "engines.dask.checks": "as of `python`",
    "engines.dask.memory": "as of `python`",
    "engines.dask.events": "as of `python`",
    "engines.command.argv": "program and arguments, a list; never a shell line",
    "engines.command.cwd": "where it runs, relative to the base folder",
    "engines.command.env": "variables for it; null takes one away",
    "engines.command.stdin": "text as it is, anything else as JSON",
    "engines.command.ok_codes": "exit codes that mean success",
    "engines.command.output": "what of standard output the task hands on",
    "engines.command.memory": "the most that the program may have resident",
    "engines.http.url": "where to; the address is checked when connecting",
    "engines.http.method": "the HTTP method",
    "engines.http.headers": "headers besides ours; `Idempotency-Key` and `traceparent` are set by us",
    "engines.http.json": "the body as JSON",
    "engines.http.body": "the body as text",
    "engines.http.cloudevent": "a CloudEvent instead of `json` or `body`: mode, id, source, type, subject, datacontenttype, data, extensions",
    "engines.http.request_timeout": "bounds one request",
    "engines.http.expect": "statuses that mean success; without any, 2xx",
    "engines.http.output": "what of the answer the task hands on",
    "engines.http.redirects": "whether redirects on the same host are followed",
    "engines.http.per_host": "requests to one host that are under way at once",
    "engines.kafka.brokers": "where to begin to ask, such as [kafka-1:9092]; no template",
    "engines.kafka.topic": "the topic",
    "engines.kafka.key": "the record's key, text or JSON; a CloudEvent's is by default its extension `partitionkey`",
    "engines.kafka.headers": "headers besides ours; `idempotency-key`, `traceparent` and `ce_…` are set by us",
    "engines.kafka.value": "text as it is, anything else as JSON; null with a `key` is a tombstone",
    "engines.kafka.cloudevent": "a CloudEvent instead of `value`: mode, id, source, type, subject, datacontenttype, data, extensions",
    "engines.kafka.delivery_timeout": "bounds the time until all replicas in sync have it",
    "engines.kafka.tls": "true, or certificates: {ca, cert, key, check_hostname}",
    "engines.kafka.sasl": "who we are: {mechanism, username, password}, or oauth",
}

SECTIONS = {
    "intro": """YAML 1.2, one file or several, deep-merged left to right; `--overlay FILE` lays another on top. `on`, `NO` and
`10:30` are strings. Unknown keys are errors that name the nearest known one; the same name twice in one layer is an
error. `x-…` keys are yours. `tidegate check FILE…` finds every problem at once and needs no secret; `tidegate schema`
prints the JSON Schema for editors.

**Secrets** are references: `${env:NAME}`, `${env:NAME:-default}` and `${file:/path}` anywhere in a string, or whole values
`env:NAME` and `file:/path` in fields that are secrets. A secret written out is refused. **Durations** are `500ms 30s 5m 6h
7d` (tables below show defaults in seconds), **sizes** `64KiB 5MiB` (defaults in bytes). **Start** is `now`, `beginning`, a
timestamp, or `-7d`. Expressions: see [expressions](expressions.md).

`defaults: {sensor: {…}, task: {…}}` is merged under every sensor and every task that stands in YAML. `sensors.NAME` has a
`kind` and its options ([sensors](sensors.md)); a task has an `engine` and its options ([engines](engines.md)).

The service watches its files. A valid change is put in force without losing an event; an invalid one is refused and
reported, and the old configuration runs on. Runs keep the definition they started with. Addresses and the store are
read at start only.""",
    "connections.NAME": "Named once, used as `connection:`. It has a `kind` and what that kind needs.",
    "triggers.NAME": "One rule: `on` single events, or one of `join`, `sequence`, `count`, `absent`. `missing_field: false` lets a missing field be false instead of an error.",
    "pipelines.NAME": """One of three forms: `python: "module:name"`, `tasks: {…}`, or one task written straight into the entry
(`engine: …` and its options). Besides that:""",
    "cli": """`tidegate`, or `python -m tidegate`. A bare noun lists. Tables for people; `--json` on every reading command. Exit
codes: 0 ok, 1 found problems, 2 usage, 3 cannot reach the service. Commands that talk to a running service use
`TIDEGATE_URL` (default `http://127.0.0.1:8080`) and `TIDEGATE_TOKEN`.""",
    "http": """`/api/docs` of a running service shows this with all fields, `/api/openapi.json` is the document. Webhooks answer
`202 {"events": [{"event": "evt_…", "duplicate": false}]}` on their own paths. On loopback the API needs no token; elsewhere
it wants `Authorization: Bearer …` (`tidegate tokens add`). Lists page with an opaque `cursor`; times are RFC 3339 in UTC;
errors are RFC 9457 problem details. Our own fault is 503 with `Retry-After`, overload 429 with `Retry-After`.
""",
    "sensors": """A sensor watches one source and emits events. `tidegate kinds NAME` shows the same in the terminal. A kind of your
own: [write a sensor](../how-to/write-a-sensor.md).""",
    "verifiers": "Each webhook names who may post. Signatures are compared in constant time, over the raw bytes.",
    "engines": """An engine is where a task's work happens. Options of every task: [configuration](config.md). Strings in options may
hold `${{ … }}` ([expressions](expressions.md)), evaluated once per task run; lists and maps are built, never a shell
line.""",
    "checks": """What must hold of data. In Python they are functions of `pipelines.authoring` with these names and options; in YAML
entries of `checks:` on a `python` task, a `check` task or a dataset. How and where they are made:
[check your data](../how-to/check-your-data.md).
""",
    "metrics": """`/metrics` has them in the Prometheus text format (dots become underscores, units and `_total` are appended), OTLP sends
them under these names. Labels are configured names and fixed words, never ids, keys or anything that a sender chose.
""",
}
