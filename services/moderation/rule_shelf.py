"""Compiled rules, kept for the policies in use: compiling one takes long enough to be work for a thread."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

from services.moderation.names import NameIndex
from services.moderation.policies import Policy
from services.moderation.rules import RulesLayer

KEPT = 64  # compiled policies


class RuleShelf:
    """Rules by the policy's etag; those used last are kept. Safe for many calls at once in one event loop.

    names: the lists of names that are there. Default: those that come with the service.
    """

    def __init__(self, policies: Iterable[Policy] = (), names: NameIndex | None = None) -> None:
        self._names = names
        self._kept: OrderedDict[str, RulesLayer] = OrderedDict()
        self._compiling = asyncio.Lock()
        for policy in policies:
            self._kept[policy.etag] = RulesLayer(policy, names)

    async def layer(self, policy: Policy) -> RulesLayer:
        """The policy's rules, compiled in a thread where they are not at hand; one policy at a time."""
        found = self._kept.get(policy.etag)
        if found is not None:
            self._kept.move_to_end(policy.etag)
            return found
        async with self._compiling:
            return self._kept.get(policy.etag) or await self._compile(policy)

    async def warm(self, policies: Iterable[Policy]) -> None:
        """Has the rules of as many of the policies at hand as are kept."""
        for policy in list(policies)[:KEPT]:
            await self.layer(policy)

    async def _compile(self, policy: Policy) -> RulesLayer:
        made = await asyncio.to_thread(RulesLayer, policy, self._names)
        self._kept[policy.etag] = made
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return made
