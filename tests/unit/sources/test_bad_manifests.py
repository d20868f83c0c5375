"""What people get wrong in a manifest, and the one line that each of them reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from reconciler.sources.manifests.read import MAX_FILE, MAX_PROBLEMS, load
from tests.unit.sources.manifests import DEVICE, POOL

NOT_A_NAME = "is not a name: use letters, digits and . _ -, first a letter or digit, at most 63 characters"
with_libyaml = pytest.mark.skipif(not yaml.__with_libyaml__, reason="the words are libyaml's")


def named(name: str) -> str:
    return DEVICE.replace("app", name)


def sized(size: str) -> str:
    return DEVICE.replace("1GiB", size)


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    """What is said of this as a.yaml."""
    path = tmp_path / "a.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    loaded = load(tmp_path)
    assert (loaded.records is None) == bool(loaded.problems)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in loaded.problems]


BROKEN = {
    "a colon too many": (
        "a: b: c\n",
        (
            "1:5: not YAML: mapping values are not allowed in this context: "
            "a colon too many, or lines that are not indented alike"
        ),
    ),
    "a tab": (
        "a:\n\tb: 1\n",
        (
            "2:1: not YAML: found character that cannot start any token: "
            "indent with spaces, and quote text that starts with a special character"
        ),
    ),
    "an open bracket": (
        "a: [1, 2\nb: 3\n",
        "2:2: not YAML: did not find expected ',' or ']': a bracket is not closed, or a comma is missing",
    ),
    "an open quote": (
        'a: "x\n',
        "2:1: not YAML: found unexpected end of stream: a quote or bracket is not closed",
    ),
    "uneven indentation": (
        "a:\n  b: 1\n c: 2\n",
        "3:2: not YAML: did not find expected key: lines that belong together must be indented alike",
    ),
}


@with_libyaml
@pytest.mark.parametrize(("text", "line"), BROKEN.values(), ids=BROKEN)
def test_broken_yaml(tmp_path: Path, text: str, line: str) -> None:
    assert problems(tmp_path, text) == [f"a.yaml:{line}"]


YAML_FEATURES = {
    "a field twice": (DEVICE + "  pool: other\n", "8:3: spec.pool: given twice, first on line 6: keep one"),
    "a tag": (
        sized("!!python/object/apply:os.system [ls]"),
        "7:9: spec.size: tags are not supported: leave it out, and quote what should be text",
    ),
    "a merge key": (
        DEVICE + "  <<: {readOnly: true}\n",
        "8:3: spec: merge keys (<<) are not supported: write the fields out",
    ),
    "an alias of nothing": (sized("*x"), "7:9: spec.size: no anchor &x before this alias: write the value out"),
    "an alias of itself": ("a: &a [*a]\n", "1:8: a[0]: no anchor &a before this alias: write the value out"),
    "an alias as a key": ("a: &a b\n*a : c\n", "2:1: an alias cannot be a key: write the key out"),
    "a list as a key": ("? [a]\n: b\n", "1:3: a key must be plain text: quote text that starts with a bracket"),
    "an octal number": (
        sized("010"),
        "7:9: spec.size: a number that YAML's versions read differently: quote it, or write a plain decimal one",
    ),
    "a number of base 60": (
        sized("1:30"),
        "7:9: spec.size: a number that YAML's versions read differently: quote it, or write a plain decimal one",
    ),
    "a bomb of aliases": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n"
            for before, name in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "5:11: e[1]: aliases that stand for more than 20000 values: write records out",
    ),
    "brackets only": (
        "[" * 1000,
        f"1:33: {'[0]' * 32}: nested deeper than 32: no record is",
    ),
    "a depth made of aliases": (
        f"a: &a {'[' * 20}{']' * 20}\nb: {'[' * 20}*a{']' * 20}\n",
        f"2:24: b{'[0]' * 20}: nested deeper than 32: no record is",
    ),
    "values beyond all need": (
        "[" + "a," * 250_000 + "]",
        "1:400000: [199999]: more than 200000 values: split it into several files",
    ),
}


@pytest.mark.security("S19")
@pytest.mark.parametrize(("text", "line"), YAML_FEATURES.values(), ids=YAML_FEATURES)
def test_yaml_that_no_manifest_needs(tmp_path: Path, text: str, line: str) -> None:
    assert problems(tmp_path, text) == [f"a.yaml:{line}"]


def test_brackets_beyond_what_the_parser_takes(tmp_path: Path) -> None:
    """Which of the two limits is met first depends on libyaml: what is wrong is told alike."""
    [problem] = problems(tmp_path, "[" * 100_000)
    assert problem.endswith("nested deeper than 32: no record is")


WRONG = {
    "text": ("hello\n", "1:1: not a record: write apiVersion, kind, metadata and spec"),
    "a list": ("- a\n", "1:1: not a record: write apiVersion, kind, metadata and spec"),
    "an unknown kind": (
        POOL.replace("ThinPool", "ThinPol"),
        "2:7: kind: 'ThinPol' is not known: write ThinPool or ThinDevice",
    ),
    "no kind": (POOL.replace("kind: ThinPool\n", ""), "1:1: kind: missing: write ThinPool or ThinDevice"),
    "an unknown version": (
        POOL.replace("/v1", "/v2"),
        "1:13: apiVersion: 'dm-reconciler/v2' is not known: write dm-reconciler/v1",
    ),
    "no version": (POOL.partition("\n")[2], "1:1: apiVersion: missing: write dm-reconciler/v1"),
    "no spec": (POOL.partition("spec:")[0], "1:1: spec: missing: write spec: and what should be, indented below it"),
    "an unknown field, nearly right": (
        POOL.replace("size: 2GiB", "siez: 2GiB"),
        "5:24: spec.data.siez: no such field: did you mean size?",
    ),
    "an unknown field": (
        DEVICE + "  zzz: 3\n",
        (
            "8:3: spec.zzz: no such field: known are adopt, discardOnDelete, filesystem, paused, pool, readOnly, "
            "size, snapshotOf, state"
        ),
    ),
    "an unknown field with a control character": (
        DEVICE.replace("  name: app\n", '  name: app\n  "a\\u0007b": 3\n'),
        r"5:3: metadata.'a\x07b': no such field: known are name",
    ),
    "an empty field": (
        DEVICE + "  snapshotOf:\n",
        "8:14: spec.snapshotOf: empty: give it a value, or leave the field out",
    ),
    "an unknown state": (
        DEVICE + "  state: active\n",
        "8:10: spec.state: 'active' is not known: write Active, Inactive, Committed or Absent",
    ),
    "a pool that is Committed": (
        POOL + "  state: Committed\n",
        "7:10: spec.state: 'Committed' is not known: write Active, Inactive or Absent",
    ),
    "an unknown filesystem": (
        DEVICE + "  filesystem: {type: btrfs}\n",
        "8:22: spec.filesystem.type: 'btrfs' is not known: write ext4 or xfs",
    ),
    "a filesystem in one word": (
        DEVICE + "  filesystem: ext4\n",
        "8:15: spec.filesystem: 'ext4' where fields belong: write `{field: value}`, or indent them below",
    ),
    "a truth value in quotes": (
        DEVICE + "  readOnly: 'yes'\n",
        "8:13: spec.readOnly: 'yes' is neither true nor false: write one of them, without quotes",
    ),
    "one node without a list": (
        POOL + "  nodes: web-1\n",
        "7:10: spec.nodes: 'web-1' is not a list: write [\"web-1\"]",
    ),
    "a node that is none": (
        POOL + "  nodes: [web-1, a b]\n",
        '7:18: spec.nodes[1]: \'a b\' is not a host name or pattern: write "web-1" or "web-*"',
    ),
    "a shared disk for many hosts": (
        POOL.replace("{file: /srv/d, size: 2GiB}", "{device: /dev/sda1}") + '  nodes: ["web-*"]\n',
        (
            "7:10: spec.nodes: a pool on `device:` may fit one host only: name that host, "
            "or say `localDisk: true` if each host has its own disk under that path"
        ),
    ),
    "a percentage without its sign": (
        POOL + "  lowWaterMark: 10\n",
        "7:17: spec.lowWaterMark: '10' is not a percentage: write a whole number from 1% to 100%, with the sign",
    ),
    "a thin id beyond 24 bits": (
        DEVICE + "  adopt: {deviceId: 16777216, dmName: x}\n",
        "8:21: spec.adopt.deviceId: too large: must be at most 16777215",
    ),
    "a thin id that is text": (
        DEVICE + "  adopt: {deviceId: x, dmName: x}\n",
        "8:21: spec.adopt.deviceId: 'x' is not a whole number: write one, without quotes",
    ),
    "a pool without data": (
        POOL.replace("  data: {file: /srv/d, size: 2GiB}\n", ""),
        "5:3: spec.data: missing: write {device: /dev/...} or {file: /..., size: 20GiB}",
    ),
    "a file without a size": (
        POOL.replace(", size: 2GiB", ""),
        "5:9: spec.data.size: missing: a file needs a size, such as 20GiB",
    ),
    "a path that is not absolute": (
        POOL.replace("/srv/d", "d"),
        "5:16: spec.data.file: 'd' is not an absolute path: write it from /",
    ),
    "a path with ..": (
        POOL.replace("/srv/d", "/srv/../d"),
        (
            "5:16: spec.data.file: '/srv/../d' is not a plain path: "
            "write it without . and .. and doubled or trailing slashes"
        ),
    ),
    "a block size off its grid": (
        POOL + "  blockSize: 100KiB\n",
        "7:14: spec.blockSize: must be a multiple of 64KiB, at most 1GiB",
    ),
    "metadata beyond the kernel's limit": (
        POOL.replace("32MiB", "17GiB"),
        "6:34: spec.metadata.size: must be from 2MiB to 16GiB, as the kernel uses no more",
    ),
    "an extension to less than there is": (
        POOL + "  extend: {threshold: 80%, step: 20%, max: 1GiB}\n",
        "7:44: spec.extend.max: less than data.size: must be at least 2GiB",
    ),
}


@pytest.mark.parametrize(("text", "line"), WRONG.values(), ids=WRONG)
def test_a_wrong_record(tmp_path: Path, text: str, line: str) -> None:
    assert problems(tmp_path, text) == [f"a.yaml:{line}"]


NAMES = {
    "a slash": ("a/b", f"'a/b' {NOT_A_NAME}"),
    "a blank": ("a b", f"'a b' {NOT_A_NAME}"),
    "dots": ("..", f"'..' {NOT_A_NAME}"),
    "nothing": ('""', f"'' {NOT_A_NAME}"),
    "a control character": ('"a\\u0001b"', rf"'a\x01b' {NOT_A_NAME}"),
    "a terminal's escape": ('"\\e[31m"', rf"'\x1b[31m' {NOT_A_NAME}"),
    "a line break": ('"a\\nb"', rf"'a\nb' {NOT_A_NAME}"),
    "200 characters": ("x" * 200, f"'{'x' * 40}...' {NOT_A_NAME}"),
    "a number": ("1", "'1' is a number, not text: write \"1\""),
    "a truth value": ("yes", "'yes' is a truth value, not text: write \"yes\""),
    "a list": ("[a]", "a list is not text: write one word"),
}


@pytest.mark.parametrize(("name", "line"), NAMES.values(), ids=NAMES)
def test_a_name_that_is_none(tmp_path: Path, name: str, line: str) -> None:
    assert problems(tmp_path, named(name)) == [f"a.yaml:4:9: metadata.name: {line}"]


SIZES = {
    "negative": ("-5GiB", "'-5GiB': a size must be more than 0"),
    "nothing": ("0", "'0': a size must be more than 0"),
    "a fraction": ("1.5GiB", "'1.5GiB' is not a whole number: write 1536MiB"),
    "a decimal unit": ("10GB", "'10GB' is not a binary unit: write 10GiB"),
    "19 digits": (
        "9999999999999999999",
        "'9999999999999999999' is too large: a size must be at most 9223372036854775296 bytes",
    ),
    "absurd": ("2EiB", "too large: must be at most 1EiB"),
    "off the sector grid": ("1000", "'1000' is not whole sectors: use a multiple of 512 bytes, such as 2s"),
    "a truth value": ("yes", "'yes' is not a size: write 10GiB, 64MiB, 65536 (bytes) or 2048s (sectors)"),
    "a list": ("[1]", "not a size: write 10GiB, 64MiB, 65536 (bytes) or 2048s (sectors)"),
}


@pytest.mark.parametrize(("size", "line"), SIZES.values(), ids=SIZES)
def test_a_size_that_is_none(tmp_path: Path, size: str, line: str) -> None:
    assert problems(tmp_path, sized(size)) == [f"a.yaml:7:9: spec.size: {line}"]


BYTES = {
    "binary": (b"\x7fELF\x02\x00\xff\xfe", "1:7: not UTF-8 text: save it as UTF-8"),
    "zeros": (b"\0" * 4096, r"1:1: control character '\x00': a manifest is plain text, remove it"),
    "latin-1": ("a: 1\nb: é\n".encode("latin-1"), "2:4: not UTF-8 text: save it as UTF-8"),
    "utf-16": ("a: 1\n".encode("utf-16"), "1:1: not UTF-8 text: save it as UTF-8"),
    "an escape": (b"a: 1\nb: \x1b[0m\n", r"2:4: control character '\x1b': a manifest is plain text, remove it"),
}


@pytest.mark.parametrize(("content", "line"), BYTES.values(), ids=BYTES)
def test_bytes_that_are_no_text(tmp_path: Path, content: bytes, line: str) -> None:
    assert problems(tmp_path, content) == [f"a.yaml:{line}"]


def test_two_records_with_one_name(tmp_path: Path) -> None:
    assert problems(tmp_path, f"{POOL}---\n{DEVICE}---\n{DEVICE}") == [
        f"a.yaml:19:9: metadata.name: there is already a device tank/app at {tmp_path}/a.yaml:8: rename one, or remove it"
    ]


def test_a_cycle_of_snapshots(tmp_path: Path) -> None:
    one, other = (DEVICE + f"  snapshotOf: {origin}\n" for origin in ("other", "app"))
    assert problems(tmp_path, f"{POOL}---\n{one}---\n{other.replace('name: app', 'name: other')}") == [
        (
            "a.yaml:15:15: spec.snapshotOf: snapshots in a cycle, app -> other -> app: "
            "one of them must be made without snapshotOf"
        )
    ]


def test_a_pool_without_a_record(tmp_path: Path) -> None:
    assert problems(tmp_path, DEVICE) == [
        "a.yaml:6:9: spec.pool: pool tank has no record: add its ThinPool record, or name another"
    ]


def test_every_wrong_field_is_told_at_once(tmp_path: Path) -> None:
    assert problems(tmp_path, f"{POOL}---\n{sized('10GB')}---\n{named('a/b')}") == [
        "a.yaml:14:9: spec.size: '10GB' is not a binary unit: write 10GiB",
        f"a.yaml:19:9: metadata.name: 'a/b' {NOT_A_NAME}",
    ]


def test_one_bad_record_does_not_make_its_neighbours_look_bad(tmp_path: Path) -> None:
    assert problems(tmp_path, f"{POOL.replace('2GiB', '2GB')}---\n{DEVICE}") == [
        "a.yaml:5:30: spec.data.size: '2GB' is not a binary unit: write 2GiB"
    ]


def test_nobody_is_told_more_than_can_be_read(tmp_path: Path) -> None:
    lines = problems(tmp_path, "---\na\n" * 1000)
    assert len(lines) == MAX_PROBLEMS + 1
    assert lines[-1] == "a.yaml:1:1: more than 100 problems: put these right first"


@pytest.mark.security("S20")
def test_a_file_of_50_mb_is_refused_without_reading_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yaml"
    with path.open("wb") as file:
        file.truncate(50 * MAX_FILE)
    monkeypatch.setattr(os, "read", lambda *_: pytest.fail("it was read"))
    assert [str(problem) for problem in load(tmp_path).problems] == [
        f"{path}:1:1: 50MiB, more than 1MiB: split it into several files"
    ]
