"""How a receiver knows that a call is ours: the contract's X-Signature, and the headers of Standard Webhooks.

Both are HMAC-SHA256 with the same key, the octets of the secret as it was shown. Libraries of Standard Webhooks decode
what follows `whsec_` from base64, so for them the same secret is written as `standard_secret` does.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence

PREFIX = "whsec_"


def standard_secret(secret: str) -> str:
    """A secret as libraries of Standard Webhooks want it; they come to the same key."""
    return PREFIX + base64.b64encode(secret.encode()).decode()


def signature_headers(body: bytes, message_id: str, timestamp: int, secrets: Sequence[str]) -> dict[str, str]:
    """The headers that sign a call; of the secrets the first is the present one, any other one of before.

    `webhook-signature` has a signature of each, so that a receiver may change its secret whenever it likes during a
    rotation; X-Signature can hold one only, and the former one goes beside it.
    """
    present, *former = secrets
    signed = f"{message_id}.{timestamp}.".encode() + body
    headers = {
        "X-Signature": hmac.new(present.encode(), body, hashlib.sha256).hexdigest(),
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_v1(secret, signed) for secret in secrets),
    }
    if former:
        headers["X-Signature-Previous"] = hmac.new(former[0].encode(), body, hashlib.sha256).hexdigest()
    return headers


def _v1(secret: str, signed: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(secret.encode(), signed, "sha256")).decode()
