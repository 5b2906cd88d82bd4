"""Signed addresses: whole ones open, any change closes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.storage.renditions import Fit, Spec, spec_of, violations
from services.storage.signing import BadSignature, KeyRing, Signed, Signer, sign, verify

RING = KeyRing({"new": b"n" * 32, "old": b"o" * 32}, "new")
IDS = st.from_regex(r"ast_[a-z0-9_]{1,60}", fullmatch=True)
SPECS = st.builds(
    Spec,
    width=st.integers(0, 4096),
    height=st.integers(0, 4096),
    fit=st.sampled_from(Fit),
    format=st.sampled_from(["", "webp", "avif", "jpeg", "png"]),
    quality=st.integers(0, 100),
).filter(lambda spec: not violations(spec))
TIMES = st.integers(1, 10**12 - 1)


@given(IDS, SPECS, TIMES)
def test_what_was_signed_is_read_back_until_it_expires(asset_id: str, spec: Spec, expires: int) -> None:
    target = sign(RING, f"/a/{asset_id}", spec.query, expires)
    signed = verify(RING, target, expires - 1)
    assert signed == Signed(f"/a/{asset_id}", spec.query, expires)
    assert spec_of(signed.query) == spec
    for late in (expires, expires + 0.5, expires + 10**6):
        with pytest.raises(BadSignature):
            verify(RING, target, late)


@given(IDS, SPECS, st.data())
def test_any_changed_character_is_a_wrong_signature(asset_id: str, spec: Spec, data: st.DataObject) -> None:
    target = sign(RING, f"/a/{asset_id}", spec.query, 2_000_000_000)
    place = data.draw(st.integers(0, len(target) - 1))
    other = data.draw(st.characters(codec="utf-8"))
    assume(other != target[place])
    for changed in (
        target[:place] + other + target[place + 1 :],
        target[:place] + other + target[place:],
        target[:place] + target[place + 1 :],
    ):
        assume(changed != target)
        with pytest.raises(BadSignature):
            verify(RING, changed, 0)


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(BadSignature):
        verify(RING, text, 0)


@given(st.text(alphabet="whfitq=&0123456789containverlwbp", max_size=40))
def test_a_query_is_read_only_as_it_is_written(query: str) -> None:
    spec = spec_of(query)
    if spec is not None:
        assert spec.query == query
        assert not violations(spec)


def test_keys_can_be_changed_without_breaking_addresses() -> None:
    before = sign(replace(RING, current="old"), "/a/ast_1", "", 100)
    assert verify(RING, before, 0).path == "/a/ast_1"
    with pytest.raises(BadSignature):
        verify(KeyRing({"new": b"n" * 32}, "new"), before, 0)
    with pytest.raises(BadSignature):
        verify(KeyRing({"old": b"x" * 32}, "old"), before, 0)


def test_a_key_that_does_not_exist_signs_nothing() -> None:
    forged = sign(KeyRing({"none": b""}, "none"), "/a/ast_1", "", 100)
    with pytest.raises(BadSignature):
        verify(RING, forged, 0)


def test_the_signer_counts_from_its_clock() -> None:
    url, expires = Signer(RING, "https://pictures.example", lambda: 1000.9).sign("/a/ast_1", "w=5", 60)
    assert expires == 1060
    assert url.startswith("https://pictures.example/a/ast_1?w=5&exp=1060&kid=new&sig=")


HEX = "ab" * 32


def test_a_ring_is_read_from_text() -> None:
    ring = KeyRing.parse(f"k2:{HEX}, k1:{'cd' * 40}")
    assert (ring.current, set(ring.keys), ring.keys["k2"]) == ("k2", {"k1", "k2"}, bytes.fromhex(HEX))
    assert HEX not in repr(ring)
    assert str(bytes.fromhex(HEX)) not in repr(ring)


@pytest.mark.parametrize(
    "text", ["", HEX, f":{HEX}", f"a b:{HEX}", "k1:", "k1:zz", f"k1:{'ab' * 31}", f"k1:{HEX},k1:{HEX}", f"k1:{HEX},"]
)
def test_a_wrong_ring_is_refused_without_showing_secrets(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the text must not hold what it complains about
        KeyRing.parse(text)
    assert "abab" not in str(caught.value)
