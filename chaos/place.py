"""Where it takes place: three pools and their devices as records, the disks below, and the owner of a fourth pool."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from chaos.host import attach, dmsetup, run
from chaos.records import Name, Records, Spec
from chaos.runtime import ADOPTED
from chaos.runtime import POOL as THEIRS

FOLDER: Final = Path("/srv/chaos")
ALPHA: Final = "alpha"
"""In files; its records may vanish, and nothing follows."""
BETA: Final = "beta"
"""Its metadata lies on a dm device that all can happen to; devices without a record are deleted."""
GAMMA: Final = "gamma"
"""Small, grows by itself; devices without a record are taken down."""
OWN: Final = (ALPHA, BETA, GAMMA)
METADATA: Final = "chaos-meta"
"""The dm device below beta's metadata."""
METADATA_MIB: Final = 8
FILES: Final = (Name(ALPHA, "db"), Name(ALPHA, "log"), Name(BETA, "app"))
"""Filesystems that are mounted and written to."""
BLOCKS: Final = (Name(ALPHA, "raw"), Name(BETA, "blk"), Name(GAMMA, "keep"))
"""Devices that are written to as they are."""
FILLED: Final = Name(GAMMA, "fill")
"""What is filled until the pool has to grow. Its content is nobody's."""
LOOSE: Final = (Name(BETA, "loose0"), Name(BETA, "loose1"), Name(BETA, "loose2"))
"""Devices whose records may vanish one at a time, and their data with them."""
KEPT: Final = (*FILES, *BLOCKS, FILLED)
"""Active to the end, and never deleted: they are in use."""
BASE: Final = Name(ALPHA, "base")
GOLD: Final = Name(BETA, "gold")


def _pool(name: str, data: int, **spec: object) -> Spec:
    return {
        "data": {"file": str(FOLDER / f"{name}.data"), "size": f"{data}MiB"},
        "metadata": {"file": str(FOLDER / f"{name}.meta"), "size": "4MiB"},
        **spec,
    }


def _adopted(device: str) -> Spec:
    return {"size": "8MiB", "adopt": {"deviceId": ADOPTED[device], "dmName": f"{THEIRS}-{device}"}}


def records(folder: Path) -> Records:
    """As they are at the beginning."""
    ext4, xfs = {"type": "ext4"}, {"type": "xfs"}
    extend = {"threshold": "80%", "step": "30%", "max": "192MiB"}
    specs: dict[Name, Spec] = {
        Name(ALPHA): _pool(ALPHA, 512),
        Name(ALPHA, "db"): {"size": "48MiB", "filesystem": ext4},
        Name(ALPHA, "log"): {"size": "320MiB", "filesystem": xfs},
        Name(ALPHA, "raw"): {"size": "16MiB"},
        BASE: {"state": "Committed", "size": "32MiB", "filesystem": ext4},
        Name(ALPHA, "vm"): {"snapshotOf": BASE.device},
        Name(BETA): _pool(BETA, 192, metadata={"device": f"/dev/mapper/{METADATA}"}, prune="Delete"),
        Name(BETA, "app"): {"size": "48MiB", "filesystem": ext4},
        Name(BETA, "blk"): {"size": "16MiB"},
        GOLD: {"state": "Committed", "size": "16MiB"},
        **{name: {"size": "8MiB"} for name in LOOSE},
        Name(GAMMA): _pool(GAMMA, 48, extend=extend, prune="Deactivate"),
        FILLED: {"size": "96MiB"},
        Name(GAMMA, "keep"): {"size": "8MiB"},
        Name(GAMMA, "spare"): {"size": "8MiB", "state": "Inactive"},
        Name(THEIRS): {"external": True},
        **{Name(THEIRS, device): _adopted(device) for device in ADOPTED},
    }
    return Records(folder, specs)


def build_metadata_disk() -> str:
    """The loop that beta's metadata lies on in the end, beneath a dm device that can be swapped."""
    file = FOLDER / "chaos-meta.disk"
    run("truncate", "--size", f"{METADATA_MIB}M", file)
    loop = attach(file)
    dmsetup("create", METADATA, "--table", linear(loop))
    run("udevadm", "settle")
    return loop


def linear(loop: str) -> str:
    return f"0 {METADATA_MIB << 11} linear {loop} 0"
