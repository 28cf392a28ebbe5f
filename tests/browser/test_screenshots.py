"""Pictures of the console for the documentation; test_admin.py takes those of the staff admin.

    RELAY_SCREENSHOTS=1 python -m pytest tests/browser

writes docs/screenshots/*.png. Without it a few of the pages are opened and nothing is written: a test run leaves the tree
as it was, and test_pages.py walks through the console anyway.
"""

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.browser.conftest import SCREENSHOTS, House, Visitor

pytestmark = pytest.mark.browser

WANTED = bool(os.environ.get("RELAY_SCREENSHOTS"))
MOST_OCTETS = 3_000_000  # of all pictures together: every clone carries them
WIDE, PHONE = 1280, 390


@dataclass(frozen=True)
class Shot:
    """One picture. `height` 0: the usual window."""

    name: str
    path: str
    width: int = WIDE
    theme: str = "light"
    height: int = 0
    who: str = "alice"


SHOTS = (
    Shot("overview", "{shop}", height=1000),
    Shot("overview-dark", "{shop}", theme="dark", height=1000),
    Shot("overview-phone", "{shop}", PHONE),
    Shot("getting-started", "{empty}", height=620),
    Shot("sends", "{shop}/sends"),
    Shot("sends-phone-dark", "{shop}/sends", PHONE, "dark"),
    Shot("send", "{send}", height=1500),
    Shot("send-dark", "{send}", theme="dark", height=1500),
    Shot("send-phone", "{send}", PHONE, height=1400),
    Shot("send-preview", "{send}/preview"),
    Shot("domain", "{pending}"),
    Shot("domain-phone", "{pending}", PHONE),
    Shot("api-keys", "{shop}/keys", height=480),
    Shot("webhook", "{webhook}", height=860),
    Shot("webhook-dark", "{webhook}", theme="dark", height=860),
    Shot("mailbox-phone", "{mailbox}", PHONE),
    Shot("sandbox-mail", "{mail}"),
    Shot("settings", "{shop}/settings", height=930),
    Shot("sign-in", "/sign-in", who="", height=680),
    Shot("sign-in-phone-dark", "/sign-in", PHONE, "dark", who=""),
)
SMOKE = ("sign-in", "send-dark", "overview-phone")


def squeezed(picture: bytes) -> bytes:
    """The same PNG, its data compressed as far as zlib goes: Chromium is in a hurry."""
    chunks, data, at = [], b"", 8
    while at < len(picture):
        (length,) = struct.unpack(">I", picture[at : at + 4])
        kind, body = picture[at + 4 : at + 8], picture[at + 8 : at + 8 + length]
        at += length + 12
        if kind == b"IDAT":
            data += body
        else:
            chunks.append((kind, body))
    chunks.insert(-1, (b"IDAT", zlib.compress(zlib.decompress(data), 9)))
    packed = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return picture[:8] + b"".join(packed)


@pytest.mark.parametrize(
    "shot", SHOTS if WANTED else [shot for shot in SHOTS if shot.name in SMOKE], ids=lambda shot: shot.name
)
def test_picture(visitors: Callable[..., Visitor], house: House, shot: Shot) -> None:
    take(shot, visitors(getattr(house.rows, shot.who) if shot.who else None, shot.width, shot.theme))


def take(shot: Shot, visitor: Visitor) -> None:
    """Open the page, and keep its picture where pictures are wanted."""
    if shot.height:
        visitor.page.set_viewport_size({"width": shot.width, "height": shot.height})
    assert visitor.visit(shot.path) == 200
    visitor.page.wait_for_load_state("networkidle")
    assert not visitor.complaints
    if WANTED:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        picture = visitor.page.screenshot(animations="disabled")
        (SCREENSHOTS / f"{shot.name}.png").write_bytes(squeezed(picture))


def test_pictures_stay_small() -> None:
    assert sum(picture.stat().st_size for picture in SCREENSHOTS.glob("*.png")) < MOST_OCTETS
