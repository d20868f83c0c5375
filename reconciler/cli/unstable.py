"""What `validate` and `plan` say, once, of records that name a disk by a path which may lead to another one tomorrow."""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.cli.console import note
from reconciler.kernel.block.stable_names import is_unstable, stable_name
from reconciler.model.records import Record, ThinPool


def note_unstable(records: Iterable[Record]) -> None:
    """One line on stderr for each such path. It is no mistake: the exit code stays what it is."""
    for record in records:
        if isinstance(record, ThinPool):
            for word, backing in (("data", record.spec.data), ("metadata", record.spec.metadata)):
                if backing is not None and backing.device is not None and is_unstable(backing.device):
                    note(_words(f"{record.key}: spec.{word}.device", backing.device))


def _words(where: str, path: str) -> str:
    said = f"{where}: {path} may be another disk after the next boot"
    name = stable_name(path)
    if name:
        return f"{said}: write `{name}`"
    return f"{said}, and no stable name leads to it on this host: see `ls -l /dev/disk/by-id` where the disk is"
