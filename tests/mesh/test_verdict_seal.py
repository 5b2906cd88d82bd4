"""Seals on verdicts: what they hold for, and that a key is needed on both sides."""

from __future__ import annotations

import pytest

from mesh.verdict_seal import GOOD_FOR_S, Let, Sealer

LET = Let("acme", "ast_1", "vrd_1", "ab" * 32)
KEY = bytes(range(32))


def held(seal: str, now: float = 1000.0, key: bytes = KEY) -> str | None:
    return Sealer(key, lambda: now).sha256_of(seal, LET.tenant, LET.asset_id, LET.verdict_id)


def test_a_seal_holds_for_a_minute() -> None:
    seal = Sealer(KEY, lambda: 1000.0).seal(LET)
    assert held(seal) == held(seal, 1000.0 + GOOD_FOR_S - 1) == LET.sha256
    assert held(seal, 1000.0 + GOOD_FOR_S) is None


@pytest.mark.parametrize("changed", ["", "9", "9..", "x.y.z", "٣.ab.cd", "9" * 40 + ".ab.cd", ".", "..", "999999.ab"])
def test_what_is_no_seal_counts_for_nothing(changed: str) -> None:
    assert held(changed) is None


def test_a_changed_seal_does_not_hold() -> None:
    expires, sha256, mac = Sealer(KEY, lambda: 1000.0).seal(LET).split(".")
    for parts in ((str(int(expires) + 1), sha256, mac), (expires, "cd" * 32, mac), (expires, sha256, mac[::-1])):
        assert held(".".join(parts)) is None


def test_without_a_key_nothing_is_sealed_and_no_seal_holds() -> None:
    seal = Sealer(KEY, lambda: 1000.0).seal(LET)
    nobody = Sealer.parse("")
    assert nobody.seal(LET) == ""
    assert held(seal, key=b"") is None
    assert held(seal, key=bytes(32)) is None


@pytest.mark.parametrize("text", ["ab", "xyz", "é" * 64])
def test_a_bad_key_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"hex|bytes") as caught:
        Sealer.parse(text)
    assert text not in str(caught.value)


def test_a_key_is_not_shown() -> None:
    assert KEY.hex() not in repr(Sealer(KEY))
    assert repr(KEY) not in repr(Sealer(KEY))
