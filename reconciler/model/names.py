"""Makes every device-mapper name and UUID; no other module does.

The kernel takes names of at most 127 characters and UUIDs of at most 128; a UUID of 129 was once accepted without an
error and cut off, so the lengths are proven here. A pool's name has at most 63 characters, a device's dm name at most
63 + 1 + 63 = 127, a private name is shortened to fit, and a UUID has 4 + 32 + 1 + 32 + 8 = 77.
"""

from __future__ import annotations

import re
from hashlib import blake2s
from typing import Final, NamedTuple

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
DM_NAME_PATTERN: Final = r"^[A-Za-z0-9#+.:=@_][A-Za-z0-9#+.:=@_-]{0,126}$"
"""The characters that libdevmapper does not mangle. Names of other makers match too, because `adopt` may use them."""
DM_NAME_MAX: Final = 127
CONTROL: Final = "control"
"""The only name in /dev/mapper that no device can have: it is the control node of device-mapper."""
UUID_PREFIX: Final = "DMR-"
_PRIVATE_NAME: Final = ".private"
_PRIVATE_UUID: Final = "-private"
_STORE_ID: Final = re.compile("[0-9a-f]{32}")
_OURS: Final = re.compile(r"DMR-(?P<store>[0-9a-f]{32})-(?P<record>[0-9a-f]{32})(?P<private>-private)?")


class Key(NamedTuple):
    """Names one record: a pool (`device` is empty) or one of its devices. It is also what the queue holds.

    Keys sort pools before their devices. It is a tuple because it is the key of every mapping here, and is hashed all
    the time.
    """

    pool: str
    device: str = ""

    @property
    def kind(self) -> str:
        return "ThinDevice" if self.device else "ThinPool"

    def __str__(self) -> str:
        return f"{self.pool}/{self.device}" if self.device else self.pool


def device_dm_name(pool: str, device: str) -> str:
    return f"{pool}-{device}"


def private_dm_name(pool: str, device: str) -> str:
    """The name under which a device is prepared, ignored by udev's rules, before it gets its public name."""
    name = device_dm_name(pool, device) + _PRIVATE_NAME
    if len(name) <= DM_NAME_MAX:
        return name
    digest = blake2s(name.encode(), digest_size=8).hexdigest()
    return f"{name[: DM_NAME_MAX - len(digest) - len(_PRIVATE_NAME) - 1]}.{digest}{_PRIVATE_NAME}"


def is_store_id(text: str) -> bool:
    return _STORE_ID.fullmatch(text) is not None


def make_uuid(store_id: str, record_id: str) -> str:
    return f"{UUID_PREFIX}{store_id}-{record_id}"


def private_uuid(uuid: str) -> str:
    return uuid + _PRIVATE_UUID


def is_private(uuid: str) -> bool:
    match = _OURS.fullmatch(uuid)
    return match is not None and match["private"] is not None


def of_store(uuid: str, store_id: str) -> bool:
    """Whether the store with this id made a device with this UUID."""
    match = _OURS.fullmatch(uuid)
    return match is not None and match["store"] == store_id
