"""The router's tables. All times are integer microseconds since 1970-01-01 UTC, all money integer micros (10⁻⁶) of USD.

`jobs` is the queue as well: `turn` orders waiting jobs fairly between tenants, `wake_at` says from when a running job
may be claimed again (a parked job: its wake-up; a leased one: the end of its lease). Columns of bytes hold serialised
messages of `imagemesh.router.v1`; SQL never looks into them.
"""

from __future__ import annotations

import sqlalchemy as sa

from mesh.outbox import outbox_table

metadata = sa.MetaData()

BLOB = sa.LargeBinary


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default="")


def _number(name: str, default: int = 0) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=str(default))


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false())


def _blob(name: str) -> sa.Column[bytes]:
    return sa.Column(name, BLOB, nullable=False, default=b"")


def _time(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=True)


jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    _text("key_id"),
    _text("user"),
    sa.Column("state", sa.Text, nullable=False),  # QUEUED RUNNING SUCCEEDED FAILED BLOCKED CANCELED
    _number("version", 1),  # grows with every change a watcher may see
    sa.Column("lane", sa.Text, nullable=False),  # INTERACTIVE BATCH
    _text("model"),
    _text("parent_job_id"),
    _blob("spec"),  # GenerationSpec, seed filled in
    _blob("options"),  # JobOptions
    _flag("seed_drawn"),  # the seed is ours, not the caller's
    _flag("has_inputs"),  # bytes of the caller's wait in job_inputs
    # queue
    _number("turn"),
    sa.Column("run_at", sa.BigInteger, nullable=False),
    _time("wake_at"),
    _text("lease_owner"),  # empty: parked, released or never claimed
    _time("lease_until"),
    _text("taken_from"),  # the worker that lost the lease which this one follows
    _number("epoch"),
    _text("step"),
    _number("step_losses"),
    _text("waiting_for"),  # why a RUNNING job is parked
    _time("parked_at"),
    _flag("poked"),  # a fact arrived that the lease holder has not seen
    _flag("cancel_requested"),
    _flag("committed"),  # the point of no return is passed: `images` is what gets published
    sa.Column("deadline", sa.BigInteger, nullable=False),
    # result
    _blob("images"),  # Job with only `images`
    _blob("error"),  # google.rpc.Status
    _text("error_reason"),
    _text("blocked_by"),
    _flag("cache_hit"),
    _number("progress_step"),
    _number("progress_steps"),
    # money
    _number("quoted_micros"),
    _number("reserved_micros"),  # open while the job is unfinished
    _number("cost_micros"),
    # times and trace
    sa.Column("create_time", sa.BigInteger, nullable=False),
    _time("start_time"),
    _time("end_time"),
    _text("traceparent"),
    _text("tracestate"),
    _text("run_traceparent"),  # span of the worker run before, which the next one links to
)
sa.Index("jobs_of_tenant", jobs.c.tenant, jobs.c.job_id)
sa.Index(
    "jobs_queued",
    jobs.c.lane,
    jobs.c.turn,
    sqlite_where=jobs.c.state == "QUEUED",
    postgresql_where=jobs.c.state == "QUEUED",
)
sa.Index(
    "jobs_running",
    jobs.c.lane,
    jobs.c.wake_at,
    sqlite_where=jobs.c.state == "RUNNING",
    postgresql_where=jobs.c.state == "RUNNING",
)

job_labels = sa.Table(
    "job_labels",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("label", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("job_id", sa.Text, primary_key=True),
)

job_inputs = sa.Table(
    "job_inputs",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),  # where in the spec: images[0], mask
    sa.Column("data", BLOB, nullable=False),
)

job_requests = sa.Table(
    "job_requests",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("body_hash", BLOB, nullable=False),
    sa.Column("job_id", sa.Text, nullable=False),
    sa.Column("expire_time", sa.BigInteger, nullable=False),
)
sa.Index("job_requests_expiring", job_requests.c.expire_time)

tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("tenant", sa.Text, primary_key=True),
    _number("unfinished"),  # jobs QUEUED or RUNNING
    _number("interactive_turn"),  # the turn given to the tenant's last job in the lane
    _number("batch_turn"),
)

lanes = sa.Table(
    "lanes",
    metadata,
    sa.Column("lane", sa.Text, primary_key=True),
    _number("served"),  # the highest turn claimed so far
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("attempt_id", sa.Text, primary_key=True),
    sa.Column("job_id", sa.Text, nullable=False),
    sa.Column("tenant", sa.Text, nullable=False),
    _number("ordinal"),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    _text("model_version"),
    sa.Column("state", sa.Text, nullable=False),  # RUNNING SUCCEEDED FAILED UNKNOWN CANCELED
    _flag("replay_safe"),
    _text("provider_request_id"),
    _text("indices"),  # pictures owed, "0,1,2"
    _text("dropped"),  # fields of the spec it left out, "seed,steps"
    _text("account"),  # the provider's account in the catalog
    _blob("images"),  # Job with only `images`: what was stored of it
    _blob("error"),  # google.rpc.Status
    _text("error_reason"),
    _number("worst_micros"),
    _number("cost_micros"),
    _number("epoch"),
    sa.Column("start_time", sa.BigInteger, nullable=False),
    _time("end_time"),
)
sa.Index("attempts_of_job", attempts.c.job_id, attempts.c.ordinal, unique=True)
sa.Index("attempts_bought", attempts.c.provider, attempts.c.account, attempts.c.model, attempts.c.start_time)

budgets = sa.Table(
    "budgets",
    metadata,
    sa.Column("budget_id", sa.Text, primary_key=True),  # an API key's id
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("cap_micros", sa.BigInteger, nullable=True),  # null: no cap
    _number("reserved_micros"),
    _number("spent_micros"),
    _number("held_micros"),
)

ledger_entries = sa.Table(
    "ledger_entries",
    metadata,
    sa.Column("entry_id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    _text("key_id"),
    _text("user"),
    sa.Column("job_id", sa.Text, nullable=False),
    _text("attempt_id"),
    sa.Column("kind", sa.Text, nullable=False),  # RESERVATION RELEASE DEBIT HOLD HOLD_RELEASE
    sa.Column("amount_micros", sa.BigInteger, nullable=False),
    sa.Column("day", sa.Integer, nullable=False),  # days since 1970-01-01 UTC
    _text("model"),
    _text("provider"),
    _number("images"),
    sa.Column("create_time", sa.BigInteger, nullable=False),
)
sa.Index("ledger_of_tenant", ledger_entries.c.tenant, ledger_entries.c.entry_id)
sa.Index(
    "one_debit_a_job",
    ledger_entries.c.job_id,
    unique=True,
    sqlite_where=ledger_entries.c.kind == "DEBIT",
    postgresql_where=ledger_entries.c.kind == "DEBIT",
)
sa.Index(
    "one_entry_of_a_kind_an_attempt",
    ledger_entries.c.attempt_id,
    ledger_entries.c.kind,
    unique=True,
    sqlite_where=ledger_entries.c.attempt_id != "",
    postgresql_where=ledger_entries.c.attempt_id != "",
)

cache_entries = sa.Table(
    "cache_entries",
    metadata,
    sa.Column("cache_key", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    sa.Column("job_id", sa.Text, nullable=False),
    sa.Column("images", BLOB, nullable=False),  # Job with only `images`
    sa.Column("create_time", sa.BigInteger, nullable=False),
)
sa.Index("cache_entries_by_age", cache_entries.c.create_time)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("tenant", sa.Text, nullable=False),
    _text("name"),
    _text("user"),  # every job of the key counts as this user's, when set
    sa.Column("roles", sa.Text, nullable=False),  # "CALLER OPERATOR REVIEWER"
    _text("models"),  # allowlist, blank separated; empty: all
    sa.Column("secret_hash", BLOB, nullable=False),
    sa.Column("old_secret_hash", BLOB, nullable=True),  # the secret before the last rotation
    _time("old_expire_time"),
    _time("expire_time"),
    _time("revoke_time"),
    sa.Column("create_time", sa.BigInteger, nullable=False),
)
sa.Index("api_keys_of_tenant", api_keys.c.tenant, api_keys.c.key_id)

outbox = outbox_table(metadata)
