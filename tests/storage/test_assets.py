"""The states of an asset, as a table: every move from every state."""

from __future__ import annotations

import pytest

from mesh.errors import FailedPrecondition, MeshError
from services.storage import assets
from services.storage.assets import Asset, Content, Decision, Kind, State, Withdrawal

CONTENT = Content("ab" * 32, "acme/ab/x", 1, 1, "png", 1)
MINE = Decision("ast_1", "ver_mine", epoch=5)

MOVES = {
    "publish": lambda a: assets.publish(a, MINE, content_blocked=False),
    "block": lambda a: assets.block(a, MINE),
    "withdraw": lambda a: assets.withdraw(a, Withdrawal.CONTENT),
    "restore": lambda a: assets.restore(a, ""),
    "purge": assets.purge,
}
WRONG = "WRONG_STATE"
TABLE = {  # state: what becomes of it by publish, block, withdraw, restore, purge
    State.QUARANTINED: (State.PUBLISHED, State.BLOCKED, State.QUARANTINED, State.QUARANTINED, State.PURGED),
    State.PUBLISHED: (WRONG, WRONG, State.TAKEN_DOWN, State.PUBLISHED, State.PURGED),
    State.BLOCKED: (WRONG, WRONG, State.BLOCKED, State.PUBLISHED, State.PURGED),
    State.TAKEN_DOWN: (WRONG, WRONG, State.TAKEN_DOWN, State.PUBLISHED, State.PURGED),
    State.PURGED: (WRONG, WRONG, State.PURGED, State.PURGED, State.PURGED),
}


def asset(state: State, verdict_id: str = "ver_first", epoch: int = 5) -> Asset:
    return Asset("ast_1", "acme", Kind.OUTPUT, CONTENT, state=state, verdict_id=verdict_id, epoch=epoch)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("move", MOVES)
def test_moves(state: State, move: str) -> None:
    expected = TABLE[state][list(MOVES).index(move)]
    try:
        outcome = MOVES[move](asset(state)).state
    except MeshError as error:
        outcome = error.reason
    assert outcome == expected


@pytest.mark.parametrize("state", State)
def test_only_the_moves_of_the_table_change_a_state(state: State) -> None:
    reached = {outcome for outcome in TABLE[state] if isinstance(outcome, State)} - {state}
    appeals = {State.PUBLISHED} if state in (State.BLOCKED, State.TAKEN_DOWN) else set()
    assert reached == assets.MOVES[state] | appeals


@pytest.mark.parametrize(
    ("state", "move"), [(State.PUBLISHED, assets.publish), (State.BLOCKED, lambda a, d, _: assets.block(a, d))]
)
def test_the_same_verdict_again_changes_nothing_whatever_the_epoch(state: State, move: object) -> None:
    decided = asset(state, "ver_mine", epoch=9)
    assert move(decided, MINE, True) is decided  # type: ignore[operator]


def test_blocked_content_is_not_published() -> None:
    with pytest.raises(FailedPrecondition) as caught:
        assets.publish(asset(State.QUARANTINED), MINE, content_blocked=True)
    assert caught.value.reason == "CONTENT_BLOCKED"


@pytest.mark.parametrize(("epoch", "refused"), [(4, False), (5, False), (6, True)])
def test_an_older_lease_is_refused(epoch: int, refused: bool) -> None:
    for move in (MOVES["publish"], MOVES["block"]):
        try:
            move(asset(State.QUARANTINED, epoch=epoch))
            reason = ""
        except MeshError as error:
            reason = error.reason
        assert reason == ("STALE_EPOCH" if refused else "")


def test_a_restore_takes_the_new_verdict_if_there_is_one() -> None:
    assert assets.restore(asset(State.BLOCKED), "ver_new").verdict_id == "ver_new"
    assert assets.restore(asset(State.BLOCKED), "").verdict_id == "ver_first"


@pytest.mark.parametrize("state", State)
def test_who_reads_what(state: State) -> None:
    def readable(published_only: bool) -> bool:
        try:
            assets.readable(asset(state), published_only=published_only)
        except FailedPrecondition:
            return False
        return True

    assert readable(published_only=True) == (state is State.PUBLISHED)
    assert readable(published_only=False) == (state is not State.PURGED)
