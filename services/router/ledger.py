"""The ledger's arithmetic: what a job reserves, owes and gives back. Pure; integer micros (10⁻⁶) of USD.

A job reserves its dearest plan when it is accepted. At its end the debit is taken from the reservation and the rest is
given back, in one settlement. An attempt whose outcome is unknown is held against the cap on its own, outside the
reservation, until its outcome is learned or the hold has aged.
"""

from __future__ import annotations

from dataclasses import dataclass

HOLD_DAYS = 7
DAY_US = 24 * 3600 * 1_000_000

RESERVATION = "RESERVATION"
RELEASE = "RELEASE"
DEBIT = "DEBIT"
HOLD = "HOLD"
HOLD_RELEASE = "HOLD_RELEASE"


@dataclass(frozen=True, slots=True)
class Balance:
    """The counters of one budget. cap: None means no cap."""

    cap: int | None
    reserved: int = 0
    spent: int = 0
    held: int = 0

    @property
    def remaining(self) -> int | None:
        """What may still be reserved; None without a cap, never below 0."""
        if self.cap is None:
            return None
        return max(0, self.cap - self.reserved - self.spent - self.held)

    def fits(self, amount: int) -> bool:
        """Whether `amount` more may be reserved."""
        remaining = self.remaining
        return remaining is None or amount <= remaining


@dataclass(frozen=True, slots=True)
class Settlement:
    """What the end of a job takes from its reservation and gives back; both together are the reservation."""

    debit: int
    release: int


def settle(reserved: int, cost: int) -> Settlement:
    """The settlement of a reservation: the debit is the cost, but never more than was reserved."""
    debit = max(0, min(cost, reserved))
    return Settlement(debit=debit, release=reserved - debit)


def day_of(time_us: int) -> int:
    """The UTC day of an instant, as days since 1970-01-01."""
    return time_us // DAY_US
