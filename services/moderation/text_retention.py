"""What the audit keeps of judged texts, as the policy says; pure.

HASHED keeps nothing but the SHA-256 that every verdict has; SCRUBBED the text without personal data; PLAIN the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from services.moderation.pii import scrub
from services.moderation.verdicts import Text, TextKind

KEEP: Mapping[str, Callable[[str], str]] = {"HASHED": lambda _: "", "SCRUBBED": scrub, "PLAIN": str}


def kept(texts: Sequence[Text], retention: str) -> str:
    """One line or more for each text, with its kind before all but prompts; empty where the policy keeps none."""
    if retention == "HASHED":
        return ""
    return "\n".join(_labelled(text.kind, KEEP[retention](text.text)) for text in texts)


def _labelled(kind: TextKind, text: str) -> str:
    return text if kind is TextKind.PROMPT else f"{kind}: {text}"
