"""Plays operations on a kernel, whichever it is, and tells what came of them in words that are the same for both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from reconciler.kernel.protocol import Kernel
from reconciler.kernel.simulated import WouldBlockError
from reconciler.model.dm_tables import Devno, Target, parse_devno
from reconciler.model.errors import HostError
from reconciler.model.live import DeviceInfo
from reconciler.model.units import Bytes, Sectors
from tests.testing.conformance.operations import (
    BLOCK,
    Clear,
    Create,
    Detach,
    FillMetadata,
    Garbage,
    Grow,
    LoadLinear,
    LoadLines,
    LoadPool,
    LoadThin,
    Message,
    Operation,
    PowerCut,
    Read,
    Remove,
    RemoveDeferred,
    Rename,
    Resume,
    Suspend,
    ThinIds,
    Write,
    Zero,
)

SUPERBLOCK = 4096
Shown = Mapping[str, Any]


class Environment(Protocol):
    """A kernel with two disks, `metadata` and `data`, each a file on a loop."""

    prefix: str
    """Of dm names, uuids included."""

    @property
    def kernel(self) -> Kernel: ...

    def path(self, disk: str) -> str:
        """Of the disk's file."""

    def write(self, name: str, number: int, token: str) -> None: ...

    def read(self, name: str, number: int) -> str: ...

    def remove_deferred(self, name: str) -> None: ...

    def rename(self, name: str, new: str) -> None: ...

    def garbage(self, disk: str) -> None: ...

    def power_cut(self) -> None: ...


def play(environment: Environment, operation: Operation) -> str:
    """`ok`, what was read, or the errno's name. Raises WouldBlockError where it was not done, as it would hang."""
    try:
        return _play(environment, operation) or "ok"
    except WouldBlockError:
        raise
    except HostError as fault:
        return fault.code or f"failed without errno: {fault}"


def _play(environment: Environment, operation: Operation) -> str | None:  # noqa: C901, PLR0912  # one case an operation
    dm, name = environment.kernel.dm, environment.prefix + operation.name
    match operation:
        case Create(uuid=uuid):
            dm.create(name, f"DMR-{environment.prefix}{uuid}" if uuid else "")
        case LoadPool() | LoadThin() | LoadLinear() | LoadLines():
            lines, read_only = _lines(environment, operation)
            dm.load(name, lines, read_only=read_only)
        case Resume(freeze=freeze):
            dm.resume(name, hidden=True, freeze=freeze)
        case Suspend():
            dm.suspend(name)
        case Remove():
            dm.remove(name)
        case RemoveDeferred():
            environment.remove_deferred(name)
        case Rename(new=new):
            environment.rename(name, environment.prefix + new)
        case Clear():
            dm.clear(name)
        case Message(text=text):
            dm.message(name, text)
        case FillMetadata():
            _fill_metadata(environment, name)
        case Write(number=number, token=token):
            environment.write(name, number, token)
        case Read(number=number):
            return f"read {environment.read(name, number)!r}"
        case ThinIds():
            return _thin_ids(environment, name)
        case _:
            _play_disk(environment, operation)
    return None


def _play_disk(environment: Environment, operation: Operation) -> None:
    disks, path = environment.kernel.disks, environment.path(operation.name)
    match operation:
        case Grow(blocks=blocks):
            disks.grow_file(path, Bytes(blocks * BLOCK * 512), allocate=False)
            disks.resize_loop(disks.loops_on(path)[0])
        case Zero():
            disks.zero(disks.loops_on(path)[0].path, SUPERBLOCK)
        case Garbage():
            environment.garbage(operation.name)
        case Detach():
            disks.detach(disks.loops_on(path)[0])
        case PowerCut():
            environment.power_cut()
        case _:
            raise AssertionError(operation)


def _lines(environment: Environment, operation: Operation) -> tuple[tuple[Target, ...], bool]:
    match operation:
        case LoadPool(blocks=blocks, low_water=low, features=features, block=block, read_only=read_only):
            metadata, data = devno_of(environment, operation.metadata), devno_of(environment, operation.data)
            params = f"{metadata} {data} {block} {low} {features}"
            return (_target(0, blocks * BLOCK, "thin-pool", params),), read_only
        case LoadThin(thin_id=thin_id, blocks=blocks, read_only=read_only, pool=pool, more=more, external=external):
            origin = f" {devno_of(environment, external)}" if external else ""
            params = f"{devno_of(environment, pool)} {thin_id}{origin} {more}".rstrip()
            return (_target(0, blocks * BLOCK, "thin", params),), read_only
        case LoadLinear(on=on, start=start, length=length):
            return (_target(0, length, "linear", f"{devno_of(environment, on)} {start}"),), False
        case LoadLines(lines=lines):
            return tuple(_target(*line) for line in lines), False
    raise AssertionError(operation)


def _target(start: int, length: int, kind: str, params: str) -> Target:
    return Target(Sectors(start), Sectors(length), kind, params)


def devno_of(environment: Environment, name: str) -> Devno:
    """Of a disk, or of a dm device; a number that nobody has where there is none."""
    if name in {"metadata", "data"}:
        return environment.kernel.disks.loops_on(environment.path(name))[0].devno
    info = environment.kernel.dm.info(environment.prefix + name)
    return Devno(252, 4095) if info is None else info.devno


def _fill_metadata(environment: Environment, name: str) -> None:
    for number in range(1000, 5000):
        environment.kernel.dm.message(name, f"create_thin {number}")
        if " ro " in environment.kernel.dm.status(name)[0][1]:
            return
    raise AssertionError("4,000 thins, and there is room for more")


def _thin_ids(environment: Environment, name: str) -> str:
    dm = environment.kernel.dm
    dm.message(name, "reserve_metadata_snap")
    try:
        metadata = environment.kernel.disks.loops_on(environment.path("metadata"))[0].path
        found = environment.kernel.tools.thin_ls(metadata, live=True)
    finally:
        dm.message(name, "release_metadata_snap")
    return ", ".join(f"{number}: {entry.mapped_blocks} of {entry.created_at}" for number, entry in found.items())


# What is seen


def show(environment: Environment) -> dict[str, Shown]:
    """All devices of the environment, by symbolic name."""
    dm = environment.kernel.dm
    names = [listed.name for listed in dm.list_all() if listed.name.startswith(environment.prefix)]
    infos = [info for info in map(dm.info, names) if info is not None]
    numbers = {str(info.devno): info.name.removeprefix(environment.prefix) for info in infos}
    for disk in ("metadata", "data"):
        numbers |= {str(loop.devno): disk for loop in environment.kernel.disks.loops_on(environment.path(disk))}
    return {info.name.removeprefix(environment.prefix): _show(environment, info, numbers) for info in infos}


def _show(environment: Environment, info: DeviceInfo, numbers: Mapping[str, str]) -> Shown:
    dm = environment.kernel.dm
    return {
        "uuid": info.uuid,
        "open": info.open_count,
        "events": info.event_nr,
        "suspended": info.suspended,
        "internal": info.internal_suspend,
        "read_only": info.read_only,
        "deferred": info.deferred_remove,
        "slots": (info.live_table, info.inactive_table),
        "live": [_line(target, numbers) for target in dm.table(info.name)],
        "inactive": [_line(target, numbers) for target in dm.table(info.name, inactive=True)],
        "on": sorted(numbers[str(devno)] for devno in dm.deps(info.name)),
        "status": [_status(kind, text) for kind, text in dm.status(info.name)],
    }


def _line(target: Target, numbers: Mapping[str, str]) -> str:
    words = [numbers.get(word, word) if parse_devno(word) else word for word in target.params.split()]
    return " ".join([f"{target.start} {target.length} {target.type}", *words])


def _status(kind: str, text: str) -> str:
    """How many metadata blocks are used, and which one is held, is the business of the kernel's trees."""
    words = text.split()
    if kind == "thin-pool" and len(words) > 3:
        words[1] = "*/" + words[1].partition("/")[2]
        words[3] = "-" if words[3] == "-" else "held"
    return " ".join([kind, *words])
