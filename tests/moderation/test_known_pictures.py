"""Blocked pictures: a process knows them before it looks at its first picture, and what others block later too."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.moderation.classifiers.base import Capability, Picture
from services.moderation.closing import overtake
from services.moderation.decoding import inspect
from services.moderation.perceptual import BlockedHash
from services.moderation.store import Store
from services.moderation.verdicts import Category, Finding
from tests.moderation.pictures import encode, scene
from tests.moderation.running import Running

DATA = encode(scene(1))


class Vendor:
    """A classifier outside the mesh that counts what it is shown."""

    name = "vendor"
    capability = Capability(frozenset({Category.SEXUAL}), "1", external=True)

    def __init__(self) -> None:
        self.shown = 0

    async def judge(self, _picture: Picture) -> Sequence[Finding]:
        self.shown += 1
        return ()

    async def close(self) -> None:
        """Holds nothing."""


@pytest.fixture
def vendor(moderation_on_each: Running) -> Vendor:
    vendor = Vendor()
    pictures = moderation_on_each.moderation._pictures
    pictures._classifiers = (*pictures._classifiers, vendor)
    return vendor


def known(number: int, data: bytes) -> BlockedHash:
    return BlockedHash(f"bhs_{number}", Category.GORE, inspect(data).fingerprint.hashes[0])


async def test_what_another_process_blocked_is_not_shown_to_a_vendor_even_once(
    moderation_on_each: Running, vendor: Vendor
) -> None:
    """The first picture after the blocking is the blocked one; the process has not been told of it."""
    elsewhere = Store(moderation_on_each.database, overtake)
    await elsewhere.block([known(1, DATA)], "takedown")
    verdict = await moderation_on_each.image(DATA)
    assert (verdict.layer, vendor.shown) == ("perceptual-hash", 0)
    other = encode(scene(2))
    await elsewhere.block([known(2, other)], "takedown")
    assert (await moderation_on_each.image(other)).layer == "perceptual-hash"
    assert vendor.shown == 0


async def test_the_table_is_read_once_for_many_pictures(
    moderation_on_each: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, read = moderation_on_each.moderation.store, 0
    inner = store.hash_table

    async def counted() -> object:
        nonlocal read
        read += 1
        return await inner()

    monkeypatch.setattr(store, "hash_table", counted)
    await Store(moderation_on_each.database, overtake).block([known(1, DATA)], "file")
    for number in (3, 4, 5):
        await moderation_on_each.image(encode(scene(number)))
    assert read == 1
