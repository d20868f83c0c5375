"""Drop a record from the store, leave device and data alone."""

from __future__ import annotations

from pathlib import Path
from time import time
from typing import Final

import click

from reconciler.cli.console import Failure, confirm, note, require_answer, say, yes_option
from reconciler.cli.params import Kind, complete_names, state_dir_option
from reconciler.cli.view import Seen, find, look, reading
from reconciler.model.conditions import Event, EventType
from reconciler.model.names import Key
from reconciler.model.steps import ForgetRecord
from reconciler.model.stored import StoredDevice, StoredPool
from reconciler.store.lock import StateLock
from reconciler.store.store import Store

_EPILOG: Final = """\b
The reconciler then knows nothing of it any more: it neither heals nor removes what is there.
The daemon must not be running; nothing on the host is looked at or changed.

\b
Take its manifest away first. A record that is still declared is taken for a new one by the next
run: it makes an empty device where the old one's data is gone, and else says what is in the way.

\b
Examples:
  dm-reconciler forget device tank/base
  dm-reconciler forget pool tank --yes
"""


@click.command("forget", epilog=_EPILOG)
@click.argument("kind", type=Kind())
@click.argument("name", shell_complete=complete_names)
@yes_option
@state_dir_option
def command(kind: str, name: str, yes: bool, state_dir: Path) -> None:
    """Drop a record from the store, leave device and data alone."""
    with reading(state_dir) as store:
        seen = look(store)
    one = seen[find(seen, kind, name)]
    require_answer(yes=yes)
    with StateLock(state_dir):
        pass  # the holder of the lock is found before the question, and the lock is not held while the question is open
    _warn(one, [key for key in seen if key.device and key.pool == one.key.pool])
    confirm(f"Forget {kind} {one.key}?", yes=yes)
    with StateLock(state_dir), Store.open(state_dir, wall_clock=time) as store:
        _forget(store, one)
    say(f"{kind} {one.key} is forgotten. {_what_stays(one)}")


def _warn(one: Seen, devices: list[Key]) -> None:
    if one.record is not None:
        note(f"{one.key} was still declared ({one.place}) when manifests were last read: take it away there first")
    if not one.key.device and devices:
        note(f"with the pool, its devices are forgotten: {', '.join(key.device for key in devices)}")


def _forget(store: Store, one: Seen) -> None:
    key = one.key
    if not key.device and store.intents(key.pool):
        intent = store.intents(key.pool)[0]
        raise Failure(
            f"{key}: the {intent.kind} of {intent.key} is not finished: let `run` or `apply` finish it, then forget it"
        )
    store.apply(ForgetRecord(key))
    store.drop_statuses(other for other in store.statuses() if key in {other, Key(other.pool)})
    store.add_event(Event(key, EventType.INFO, "Forgotten", "forgotten by hand: what is there stays as it is", time()))


def _what_stays(one: Seen) -> str:
    match one.known:
        case StoredDevice(dm_name=dm_name, thin_id=thin_id):
            return (
                f"Its data stays in pool {one.key.pool} as thin id {thin_id}, and so does {dm_name} in /dev/mapper "
                "if it is there"
            )
        case StoredPool(data=data, metadata=metadata):
            return f"Its data stays in {data} and {metadata}, and so does {one.key} in /dev/mapper if it is there"
        case _:
            return "The store knew nothing of it but its record"
