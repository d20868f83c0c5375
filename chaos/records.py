"""The records: what should be. They live here, and are written as manifests, with what somebody has done to the files.

What is chosen next depends on this alone and never on what the host did, so that a seed chooses the same again.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Spec = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """Of a device, or with an empty second part of a pool."""

    pool: str
    device: str = ""

    @property
    def dm(self) -> str:
        return f"{self.pool}-{self.device}" if self.device else self.pool

    @property
    def file(self) -> str:
        return f"{self.dm}.yaml"

    def __str__(self) -> str:
        return f"{self.pool}/{self.device}" if self.device else self.pool


@dataclass(slots=True)
class Records:
    folder: Path
    specs: dict[Name, Spec] = field(default_factory=dict)
    resting: set[str] = field(default_factory=set)
    """Pools whose records, and their devices', say Inactive for now."""
    vanished: set[Name] = field(default_factory=set)
    """Files that somebody has moved away."""
    spoiled: dict[str, str] = field(default_factory=dict)
    """File names, and what somebody has written there."""
    asked: set[Name] = field(default_factory=set)
    """Devices whose data somebody has asked to be deleted, be it only for a moment."""
    made: int = 0
    """Names given so far: none is given twice."""

    def devices(self, pool: str = "", *states: str) -> list[Name]:
        """Of the pool, or of all; in these states, or in any."""
        return sorted(
            name
            for name, spec in self.specs.items()
            if name.device and pool in ("", name.pool) and (not states or state_of(spec) in states)
        )

    def new_name(self, pool: str, kind: str) -> Name:
        self.made += 1
        return Name(pool, f"{kind}{self.made}")

    def spec(self, name: Name) -> Spec:
        """As it is to be written now."""
        spec = deepcopy(self.specs[name])
        if name.pool in self.resting and state_of(spec) == "Active" and not spec.get("external"):
            spec["state"] = "Inactive"
        return spec

    def write(self) -> None:
        """Each file that is another than before, elsewhere and then renamed; and those go that should not be there."""
        wanted = {name.file: self._text(name) for name in self.specs if name not in self.vanished} | self.spoiled
        for file in self.folder.glob("*.yaml"):
            if file.name not in wanted:
                file.unlink()
        for file_name, text in sorted(wanted.items()):
            file = self.folder / file_name
            if file.exists() and file.read_text(encoding="utf-8") == text:
                continue
            new = file.with_name(f".{file_name}.new")
            new.write_text(text, encoding="utf-8")
            new.rename(file)

    def _text(self, name: Name) -> str:
        spec = self.spec(name)
        kind = "ThinPool" if not name.device else "ThinDevice"
        if name.device:
            spec = {"pool": name.pool, **spec}
        document = {
            "apiVersion": "dm-reconciler/v1",
            "kind": kind,
            "metadata": {"name": name.device or name.pool},
            "spec": spec,
        }
        return yaml.safe_dump(document, sort_keys=False)


def state_of(spec: Spec) -> str:
    return str(spec.get("state", "Active"))
