CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE blobs (
	uid TEXT NOT NULL, 
	data BLOB NOT NULL, 
	PRIMARY KEY (uid)
);
CREATE TABLE checks (
	seq INTEGER NOT NULL, 
	run TEXT NOT NULL, 
	name TEXT NOT NULL, 
	task TEXT NOT NULL, 
	dataset TEXT NOT NULL, 
	passed BIGINT NOT NULL, 
	severity TEXT NOT NULL, 
	message TEXT NOT NULL, 
	at BIGINT NOT NULL, expected TEXT, actual TEXT, sample TEXT, 
	PRIMARY KEY (seq)
);
CREATE INDEX ix_checks_run ON checks (run);
CREATE TABLE counters (
	kind TEXT NOT NULL, 
	name TEXT NOT NULL, 
	outcome TEXT NOT NULL, 
	shard TEXT NOT NULL, 
	n BIGINT NOT NULL, 
	PRIMARY KEY (kind, name, outcome, shard)
)
 WITHOUT ROWID

;
CREATE TABLE cursors (
	sensor TEXT NOT NULL, 
	shard TEXT NOT NULL, 
	value TEXT NOT NULL, 
	epoch BIGINT NOT NULL, 
	updated_at BIGINT NOT NULL, 
	PRIMARY KEY (sensor, shard)
)
 WITHOUT ROWID

;
CREATE TABLE dataset_writes (
	seq INTEGER NOT NULL, 
	run TEXT NOT NULL, 
	namespace TEXT NOT NULL, 
	name TEXT NOT NULL, 
	task TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	mode TEXT NOT NULL, 
	rows BIGINT, 
	bytes BIGINT, 
	schema TEXT, 
	version TEXT, dataset TEXT, disposition TEXT, partition TEXT, changes TEXT, 
	PRIMARY KEY (seq)
);
CREATE INDEX ix_dataset_writes_name ON dataset_writes (namespace, name, seq);
CREATE INDEX ix_dataset_writes_run ON dataset_writes (run);
CREATE TABLE datasets (
	namespace TEXT NOT NULL, 
	name TEXT NOT NULL, 
	run TEXT NOT NULL, 
	task TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	mode TEXT NOT NULL, 
	rows BIGINT, 
	bytes BIGINT, 
	schema TEXT, 
	version TEXT, dataset TEXT, disposition TEXT, partition TEXT, changes TEXT, 
	PRIMARY KEY (namespace, name)
)
 WITHOUT ROWID

;
CREATE TABLE dead_letters (
	uid TEXT NOT NULL, 
	sensor TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	position TEXT NOT NULL, 
	payload BLOB NOT NULL, 
	content_type TEXT, 
	event_uid TEXT, 
	attributes TEXT, 
	PRIMARY KEY (uid)
);
CREATE INDEX ix_dead_letters_sensor ON dead_letters (sensor, uid);
CREATE TABLE decision_events (
	decision TEXT NOT NULL, 
	pos BIGINT NOT NULL, 
	event TEXT NOT NULL, 
	PRIMARY KEY (decision, pos)
)
 WITHOUT ROWID

;
CREATE INDEX ix_decision_events_event ON decision_events (event, decision);
CREATE TABLE decisions (
	uid TEXT NOT NULL, 
	"trigger" TEXT NOT NULL, 
	version TEXT NOT NULL, 
	outcome TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	clause TEXT, 
	trigger_event TEXT, 
	run TEXT, 
	item BIGINT, 
	sampled BIGINT NOT NULL, 
	span TEXT, 
	details TEXT, 
	PRIMARY KEY (uid)
);
CREATE INDEX ix_decisions_trigger ON decisions ("trigger", uid);
CREATE INDEX ix_decisions_paused ON decisions ("trigger", at, uid) WHERE outcome = 'paused';
CREATE TABLE definitions (
	hash TEXT NOT NULL, 
	text TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	PRIMARY KEY (hash)
);
CREATE TABLE edges (
	src TEXT NOT NULL, 
	dst TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	PRIMARY KEY (src, dst)
)
 WITHOUT ROWID

;
CREATE INDEX ix_edges_dst ON edges (dst);
CREATE TABLE event_ids (
	sensor TEXT NOT NULL, 
	id TEXT NOT NULL, 
	uid TEXT NOT NULL, 
	expires_at BIGINT, 
	PRIMARY KEY (sensor, id)
)
 WITHOUT ROWID

;
CREATE INDEX ix_event_ids_expires ON event_ids (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE events (
	uid TEXT NOT NULL, 
	sensor TEXT NOT NULL, 
	id TEXT NOT NULL, 
	source TEXT NOT NULL, 
	type TEXT NOT NULL, 
	subject TEXT, 
	time BIGINT, 
	received_at BIGINT NOT NULL, 
	data BLOB, 
	size BIGINT NOT NULL, 
	blob BIGINT NOT NULL, 
	content_type TEXT, 
	attributes TEXT, 
	captures TEXT, 
	traceparent TEXT, 
	tracestate TEXT, 
	trusted BIGINT NOT NULL, 
	depth BIGINT NOT NULL, 
	cause_run TEXT, 
	span TEXT, 
	state TEXT NOT NULL, 
	PRIMARY KEY (uid)
);
CREATE INDEX ix_events_cause ON events (cause_run) WHERE cause_run IS NOT NULL;
CREATE INDEX ix_events_sensor ON events (sensor, received_at, uid);
CREATE TABLE lanes (
	pipeline TEXT NOT NULL, 
	lane TEXT NOT NULL, 
	PRIMARY KEY (pipeline, lane)
)
 WITHOUT ROWID

;
CREATE TABLE logs (
	seq INTEGER NOT NULL, 
	run TEXT NOT NULL, 
	task TEXT NOT NULL, 
	attempt BIGINT NOT NULL, 
	at BIGINT NOT NULL, 
	stream TEXT NOT NULL, 
	text TEXT NOT NULL, 
	PRIMARY KEY (seq)
);
CREATE INDEX ix_logs_run ON logs (run, seq);
CREATE TABLE run_events (
	run TEXT NOT NULL, 
	pos BIGINT NOT NULL, 
	event TEXT NOT NULL, 
	PRIMARY KEY (run, pos)
)
 WITHOUT ROWID

;
CREATE INDEX ix_run_events_event ON run_events (event, run);
CREATE TABLE run_keys (
	scope TEXT NOT NULL, 
	pipeline TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	generation BIGINT NOT NULL, 
	last_run TEXT, 
	last_state TEXT, 
	PRIMARY KEY (scope, pipeline, "key")
)
 WITHOUT ROWID

;
CREATE TABLE runs (
	seq INTEGER NOT NULL, 
	uid TEXT NOT NULL, 
	pipeline TEXT NOT NULL, 
	definition TEXT NOT NULL, 
	state TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	key_scope TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	generation BIGINT NOT NULL, 
	"trigger" TEXT, 
	trigger_event TEXT, 
	params TEXT, 
	partition TEXT, 
	lane TEXT, 
	depth BIGINT NOT NULL, 
	holder TEXT, 
	lease_until BIGINT, 
	fence BIGINT NOT NULL, 
	started_at BIGINT, 
	finished_at BIGINT, 
	error TEXT, 
	cancel_reason TEXT, 
	span TEXT, 
	run_span TEXT, 
	resumed_from TEXT, 
	config_hash TEXT NOT NULL, 
	PRIMARY KEY (seq)
);
CREATE INDEX ix_runs_active ON runs (pipeline, lease_until) WHERE state IN ('running', 'cancelling');
CREATE INDEX ix_runs_free ON runs (pipeline, seq) WHERE state = 'queued' AND lane IS NULL;
CREATE INDEX ix_runs_lane ON runs (pipeline, lane, seq) WHERE lane IS NOT NULL AND state IN ('queued', 'running', 'cancelling');
CREATE INDEX ix_runs_laned ON runs (pipeline, seq) WHERE state = 'queued' AND lane IS NOT NULL;
CREATE INDEX ix_runs_pipeline ON runs (pipeline, seq);
CREATE INDEX ix_runs_resumed ON runs (resumed_from) WHERE resumed_from IS NOT NULL;
CREATE INDEX ix_runs_trigger_event ON runs (trigger_event) WHERE trigger_event IS NOT NULL;
CREATE UNIQUE INDEX ix_runs_uid ON runs (uid);
CREATE TABLE seen_objects (
	sensor TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	token TEXT NOT NULL, 
	incarnation BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	first_seen BIGINT NOT NULL, 
	last_changed BIGINT NOT NULL, 
	extra TEXT NOT NULL, 
	PRIMARY KEY (sensor, "key")
)
 WITHOUT ROWID

;
CREATE TABLE settings (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
)
 WITHOUT ROWID

;
CREATE TABLE stubs (
	uid TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	label TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	PRIMARY KEY (uid)
)
 WITHOUT ROWID

;
CREATE TABLE task_runs (
	seq INTEGER NOT NULL, 
	uid TEXT NOT NULL, 
	run TEXT NOT NULL, 
	task TEXT NOT NULL, 
	partition TEXT NOT NULL, 
	state TEXT NOT NULL, 
	attempt BIGINT NOT NULL, 
	failures BIGINT NOT NULL, 
	lost BIGINT NOT NULL, 
	engine TEXT NOT NULL, 
	engine_key TEXT, 
	handle TEXT, 
	started_at BIGINT, 
	finished_at BIGINT, 
	next_at BIGINT, 
	output TEXT, 
	error TEXT, 
	error_kind TEXT, 
	span TEXT, 
	cpu_seconds FLOAT, 
	peak_rss_bytes BIGINT, item TEXT, first_started_at BIGINT, 
	PRIMARY KEY (seq)
);
CREATE INDEX ix_task_runs_run ON task_runs (run, seq);
CREATE UNIQUE INDEX ix_task_runs_uid ON task_runs (uid);
CREATE TABLE timers (
	kind TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	due BIGINT NOT NULL, 
	payload TEXT NOT NULL, 
	PRIMARY KEY (kind, "key")
)
 WITHOUT ROWID

;
CREATE INDEX ix_timers_due ON timers (due);
CREATE TABLE trigger_causes (
	trigger_event TEXT NOT NULL, 
	pos BIGINT NOT NULL, 
	event TEXT NOT NULL, 
	PRIMARY KEY (trigger_event, pos)
)
 WITHOUT ROWID

;
CREATE INDEX ix_trigger_causes_event ON trigger_causes (event);
CREATE TABLE trigger_events (
	uid TEXT NOT NULL, 
	"trigger" TEXT NOT NULL, 
	version TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	pipeline TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	params TEXT, 
	partition TEXT, 
	lane TEXT, 
	span TEXT, 
	config_hash TEXT NOT NULL, 
	PRIMARY KEY (uid)
);
CREATE TABLE object_actions (
	uid TEXT NOT NULL, 
	sensor TEXT NOT NULL, 
	event TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	etag TEXT NOT NULL, 
	action TEXT NOT NULL, 
	target TEXT NOT NULL, 
	tags TEXT, 
	moment TEXT NOT NULL, 
	created_at BIGINT NOT NULL, 
	ready BIGINT NOT NULL, 
	PRIMARY KEY (uid)
)
 WITHOUT ROWID

;
CREATE INDEX ix_object_actions_ready ON object_actions (sensor, uid) WHERE ready = 1;
CREATE INDEX ix_object_actions_key ON object_actions (sensor, "key", uid);
CREATE INDEX ix_object_actions_event ON object_actions (event, created_at);
CREATE TABLE rounds (
	"trigger" TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	phase TEXT NOT NULL, 
	uid TEXT NOT NULL, 
	meaning TEXT NOT NULL, 
	version TEXT NOT NULL, 
	since BIGINT NOT NULL, 
	due BIGINT NOT NULL, 
	taken BIGINT NOT NULL, 
	counted BIGINT NOT NULL, 
	as_of BIGINT NOT NULL, 
	PRIMARY KEY ("trigger", "key")
)
 WITHOUT ROWID

;
CREATE INDEX ix_rounds_done ON rounds (due) WHERE phase <> 'open';
CREATE TABLE round_events (
	"trigger" TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	part TEXT NOT NULL, 
	event TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	depth BIGINT NOT NULL, 
	PRIMARY KEY ("trigger", "key", part, event)
)
 WITHOUT ROWID

;
CREATE TABLE alerts (
	uid TEXT NOT NULL, 
	route TEXT NOT NULL, 
	id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	severity TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	grp TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	text TEXT NOT NULL, 
	count BIGINT NOT NULL, 
	ends BIGINT NOT NULL, 
	labels TEXT NOT NULL, 
	state TEXT NOT NULL, 
	message TEXT, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (uid)
);
CREATE UNIQUE INDEX ix_alerts_id ON alerts (route, id);
CREATE INDEX ix_alerts_new ON alerts (route, uid) WHERE state = 'new';
CREATE INDEX ix_alerts_gathered ON alerts (route, grp) WHERE state = 'gathered';
CREATE INDEX ix_alerts_group ON alerts (grp) WHERE state = 'new';
CREATE INDEX ix_alerts_message ON alerts (message) WHERE message IS NOT NULL;
CREATE TABLE alert_groups (
	route TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	open BIGINT NOT NULL, 
	last_at BIGINT NOT NULL, 
	next_at BIGINT, 
	state TEXT NOT NULL, 
	PRIMARY KEY (route, "key")
)
 WITHOUT ROWID

;
CREATE INDEX ix_alert_groups_next ON alert_groups (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX ix_alert_groups_key ON alert_groups ("key") WHERE open = 1;
CREATE TABLE alert_messages (
	message TEXT NOT NULL, 
	target BIGINT NOT NULL, 
	route TEXT NOT NULL, 
	grp TEXT NOT NULL, 
	made_at BIGINT NOT NULL, 
	body TEXT NOT NULL, 
	state TEXT NOT NULL, 
	attempts BIGINT NOT NULL, 
	next_at BIGINT NOT NULL, 
	error TEXT NOT NULL, 
	done_at BIGINT, 
	PRIMARY KEY (message, target)
);
CREATE INDEX ix_alert_messages_due ON alert_messages (next_at) WHERE state = 'pending';
CREATE INDEX ix_alert_messages_group ON alert_messages (route, target, grp, message) WHERE state = 'pending';
CREATE INDEX ix_checks_dataset ON checks (dataset, seq);
INSERT INTO alembic_version (version_num) VALUES ('0011');
