"""How many pictures an account has bought of a model in this calendar month (UTC), for prices with volume tiers."""

from __future__ import annotations

import datetime

import sqlalchemy as sa

from mesh.db import now_us
from services.router.tables import attempts

_PLACE = sa.select(attempts.c.provider, attempts.c.account, attempts.c.model).where(
    attempts.c.attempt_id == sa.bindparam("v_attempt")
)
_COMMAS = sa.func.length(attempts.c.indices) - sa.func.length(sa.func.replace(attempts.c.indices, ",", ""))
_PICTURES = sa.select(sa.func.coalesce(sa.func.sum(_COMMAS + 1), 0)).where(
    attempts.c.provider == sa.bindparam("v_provider"),
    attempts.c.account == sa.bindparam("v_account"),
    attempts.c.model == sa.bindparam("v_model"),
    attempts.c.start_time >= sa.bindparam("v_since"),
    attempts.c.state == "SUCCEEDED",
    attempts.c.attempt_id != sa.bindparam("v_attempt"),
)


def bought_before(connection: sa.Connection, attempt_id: str) -> int:
    """Pictures of the other fulfilled orders at the same provider, account and model since the month began.

    An order counts with every picture it owed, also where the provider delivered fewer.
    """
    place = connection.execute(_PLACE, {"v_attempt": attempt_id}).one_or_none()
    if place is None:
        return 0
    now = connection.execute(sa.select(now_us())).scalar_one()
    values = {"v_provider": place.provider, "v_account": place.account, "v_model": place.model}
    found = connection.execute(_PICTURES, {**values, "v_since": month_start_us(now), "v_attempt": attempt_id})
    return int(found.scalar_one())


def month_start_us(now: int) -> int:
    """The first instant of the month, both in microseconds since 1970."""
    day = datetime.datetime.fromtimestamp(now / 1_000_000, datetime.UTC).date().replace(day=1)
    midnight = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    return round(midnight.timestamp()) * 1_000_000
