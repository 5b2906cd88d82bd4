"""Call backs are believed only when they are signed and fresh; whatever else comes is refused, never our error."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from services.router.providers.webhooks import CallBack, CallBackRefusedError, hmac_sha256, standard_webhooks

SECRET = "whsec_plJ3nmyCDGBKInavdOK15jsl"
SENT = 1731705121.0
SIGNED = {  # the specification's example
    "webhook-id": "msg_loFOjxBNrRLzqYUf",
    "webhook-timestamp": "1731705121",
    "webhook-signature": "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=",
}
BODY = b'{"event_type":"ping","data":{"success":true}}'


def standard(headers: Mapping[str, str], now: float = SENT, body: bytes = BODY) -> None:
    standard_webhooks(CallBack({**SIGNED, **headers}, body), SECRET, now)


@pytest.mark.parametrize("off", [-300.0, 0.0, 300.0])
def test_what_is_signed_is_believed_within_the_window(off: float) -> None:
    standard({}, SENT + off)


def test_any_of_several_signatures_may_fit() -> None:
    standard({"webhook-signature": f"v1a,x v1,AAAA {SIGNED['webhook-signature']}"})


@pytest.mark.parametrize(
    "refused",
    [
        lambda: standard({}, SENT + 301),
        lambda: standard({}, SENT - 301),
        lambda: standard({}, body=b"{}"),
        lambda: standard({"webhook-id": "msg_other"}),
        lambda: standard({"webhook-timestamp": "nan"}),
        lambda: standard({"webhook-timestamp": "soon"}),
        lambda: standard({"webhook-signature": ""}),
        lambda: standard({"webhook-signature": SIGNED["webhook-signature"].removeprefix("v1,")}),
        lambda: standard({"webhook-signature": "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0é"}),
        lambda: standard({"webhook-signature": "v1,\udce9"}),
        lambda: hmac_sha256(CallBack({"x-signature": "sha256=é"}, BODY), "x-signature", "secret"),
        lambda: hmac_sha256(CallBack({"x-signature": "sha256=00"}, BODY), "x-signature", "secret"),
        lambda: hmac_sha256(CallBack({}, BODY), "x-signature", "secret"),
    ],
)
def test_everything_else_is_refused(refused: Callable[[], None]) -> None:
    with pytest.raises(CallBackRefusedError):
        refused()
