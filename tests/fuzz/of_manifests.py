"""Manifests: the bytes of files, whole directories, and the words in them."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from reconciler.daemon.record_loader import spec_of
from reconciler.model.fields import DmName, Label, Name, NodePattern, Percent, Size
from reconciler.model.fields import Path as PathField
from reconciler.model.names import DM_NAME_MAX, device_dm_name, private_dm_name
from reconciler.model.recordset import RecordSet
from reconciler.model.units import exact_size, format_size, parse_size, percent_of
from reconciler.sources.manifests.explain import KINDS
from reconciler.sources.manifests.read import Loaded, load
from tests.fuzz.target import Target, assert_shown, refuses, text_of

_LINE = re.compile(r"(?P<file>.+?):[1-9][0-9]*:[1-9][0-9]*: .+")
_WORDS = tuple(
    word.encode()
    for word in (
        *("---\n", "...\n", "\n  ", "\n    ", "- ", ": ", "? ", "&a ", "*a", "<<: *a", "!!str ", "!x ", "| ", "> ", "# "),
        *("%YAML 1.1\n", "%TAG ! x\n", "{", "}", "[", "]", "yes", "No", "on", "~", "null", "true", ".inf", "1:30", "010"),
        *("0o17", "2024-01-01", "1e3", "0.5", "10GiB", "10GB", "2048s", "80%", "0%", "101%", "500%", "-1", "16EiB"),
        *("apiVersion: dm-reconciler/v1\n", "kind: ThinPool\n", "kind: ThinDevice\n", "metadata: {name: a}\n", "spec:\n"),
        *("  pool: tank\n", "  size: 1GiB\n", "  state: Absent\n", "  state: Committed\n", "  snapshotOf: b\n"),
        *('  nodes: ["web-*"]\n', "  adopt: {deviceId: 7, dmName: x}\n", "  adopt: true\n", "  extend: {}\n", "..", "."),
        *("  filesystem: {type: ext4, label: x}\n", "  data: {device: /dev/sda}\n", "  prune: Delete\n", "[!-~]*", "?" * 50),
    )
)  # fmt: skip
_FILE = b"\n=====FILE "
"""What follows is another file: its name, to the end of the line, and what is in it."""


def sound(loaded: Loaded) -> None:
    """Records, which come back the same when they are written out, or problems, each in one line of the promised form."""
    assert (loaded.records is None) == bool(loaded.problems)
    for problem in loaded.problems:
        line = str(problem)
        assert_shown(line)
        assert _LINE.fullmatch(line), line
    for record in loaded.records or ():
        document = {
            "apiVersion": "dm-reconciler/v1",
            "kind": record.kind,
            "metadata": {"name": record.metadata.name},
            "spec": spec_of(record),
        }
        assert KINDS[record.kind].model_validate(document, by_alias=True, by_name=False) == record
    if loaded.records is not None:
        assert RecordSet.of(loaded.records) == loaded.records
        loaded.records.for_node("web-1.example")


class Folder:
    """Made once, as making one takes longer than reading it."""

    def __init__(self) -> None:
        self._kept = tempfile.TemporaryDirectory(prefix="fuzz-")
        self.path = Path(self._kept.name)

    def clear(self) -> None:
        for file in self.path.iterdir():
            if file.is_dir() and not file.is_symlink():
                file.rmdir()
            else:
                file.unlink()


_ONE, _MANY = Folder(), Folder()


def _manifest(data: bytes) -> None:
    file = _ONE.path / "a.yaml"
    file.write_bytes(data)
    sound(load(file))


def _directory(data: bytes) -> None:
    _MANY.clear()
    for piece in data.split(_FILE)[:50]:
        name, _, content = piece.partition(b"\n")
        name = name.replace(b"/", b"").replace(b"\0", b"")[:200]
        if name not in {b"", b".", b".."}:
            _make(os.fsencode(_MANY.path) + b"/" + name, content)
    sound(load(_MANY.path))
    sound(load(_MANY.path, trust=False))


def _make(path: bytes, content: bytes) -> None:
    """By how its content begins: a link, a fifo, a directory, one that others may write, else a plain file."""
    if os.path.lexists(path):
        return
    if content.startswith(b"LINK ") and b"\0" not in content:
        os.symlink(content[5:200].strip() or b"nowhere", path)  # noqa: PTH211
    elif content.startswith(b"FIFO"):
        os.mkfifo(path)
    elif content.startswith(b"FOLDER"):
        os.mkdir(path)  # noqa: PTH102  # a name of any bytes
    else:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(descriptor, content)
        os.close(descriptor)
        if content.startswith(b"OPEN"):
            os.chmod(path, 0o666)  # noqa: PTH101, S103


def _size(data: bytes) -> None:
    text = text_of(data)
    if refuses(lambda: parse_size(text), ValueError):
        return
    size = parse_size(text)
    assert 0 < size < 2**63
    assert size % 512 == 0
    assert parse_size(exact_size(size)) == size
    assert_shown(format_size(size))


_NAME = TypeAdapter(Name)
_FIELDS = [TypeAdapter(kind) for kind in (Size, Percent, PathField, Name, DmName, NodePattern, Label)]


def _field(data: bytes) -> None:
    """Each type of field takes text whole, or raises the one error that the loader explains."""
    text = text_of(data)
    for adapter in _FIELDS:
        try:
            value = adapter.validate_python(text)
        except ValidationError:
            continue
        assert str(value).isprintable()
        assert "\n" not in str(value)
    if not refuses(lambda: percent_of(text), ValueError):
        assert 1 <= percent_of(text) <= 100


def _name(data: bytes) -> None:
    first, _, second = text_of(data).partition("\n")
    try:
        pool, device = (_NAME.validate_python(name) for name in (first, second))
    except ValidationError:
        return
    names = device_dm_name(pool, device), private_dm_name(pool, device)
    assert len(set(names)) == 2
    assert all(len(name) <= DM_NAME_MAX and "/" not in name for name in names)


def _nodes(data: bytes) -> None:
    """Patterns against a host's name: never long, whatever stars they hold."""
    node, *patterns = text_of(data).split("\n")
    spec = {
        "data": {"device": "/dev/sda"},
        "metadata": {"device": "/dev/sdb"},
        "nodes": patterns[:64],
        "localDisk": True,
    }
    document = {"apiVersion": "dm-reconciler/v1", "kind": "ThinPool", "metadata": {"name": "tank"}, "spec": spec}
    model: type[BaseModel] = KINDS["ThinPool"]
    try:
        record = model.model_validate(document, by_alias=True, by_name=False)
    except ValidationError:
        return
    RecordSet.of([record]).for_node(node)  # type: ignore[list-item]


TARGETS = (
    Target("manifest", _manifest, _WORDS),
    Target(
        "manifest_directory",
        _directory,
        (*_WORDS, _FILE, b"LINK ", b"FIFO", b"FOLDER", b"OPEN", b"b.yaml\n"),
        share=0.2,
    ),
    Target("size", _size, (b"KiB", b"MiB", b"GiB", b"EiB", b"s", b"B", b"kB", b"."), share=2),
    Target("field", _field, (b"%", b"/", b"..", b"/dev/sda", b"-", b".private", b"web-*", b"[a-", b"GiB")),
    Target("name", _name, (b"-", b".", b"_", b".private")),
    Target("nodes", _nodes, (b"*", b"?", b"[a-z]", b"[!a]", b"*a" * 60, b"[", b"]"), share=0.5),
)
