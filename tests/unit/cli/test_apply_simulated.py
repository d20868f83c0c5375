"""`apply --kernel simulated`: the same steps, summary and exit codes, without a kernel, and with nothing left of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconciler.cli.main import main
from reconciler.kernel.dm import device_mapper
from reconciler.model.errors import HostError
from tests.unit.cli.conftest import Said

TREE = Path(__file__).parents[3]
CONVERGED, USAGE, INVALID, NOT_AS_DESIRED = 0, 2, 3, 4
FILES: dict[str, Any] = {
    "data": {"file": "/srv/a/tank.data", "size": "1GiB"},
    "metadata": {"file": "/srv/b/tank.meta", "size": "4MiB"},
}
DISKS: dict[str, Any] = {"data": {"device": "/dev/disk/by-id/data"}, "metadata": {"device": "/dev/nvme0n1p2"}}
Apply = Callable[..., Said]


def record(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "dm-reconciler/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def pool(name: str = "tank", /, **spec: Any) -> dict[str, Any]:
    return record("ThinPool", name, **(spec if {"data", "external"} & spec.keys() else {**FILES, **spec}))


def device(name: str, **spec: Any) -> dict[str, Any]:
    return record("ThinDevice", name, **{"pool": "tank", **spec})


@pytest.fixture
def apply(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Apply:
    """Where libdevmapper is not installed, and nothing may be started."""

    def not_there() -> None:
        raise HostError("load", "libdevmapper", 2, "not installed")

    def start(*words: object, **more: object) -> None:
        raise AssertionError(f"started: {words} {more}")

    monkeypatch.setattr(device_mapper, "load", not_there)
    monkeypatch.setattr("subprocess.Popen", start)
    manifests = tmp_path / "manifests"
    manifests.mkdir(mode=0o755)

    def call(*records: dict[str, Any], options: tuple[str, ...] = ()) -> Said:
        (manifests / "all.yaml").write_text(yaml.safe_dump_all(records), encoding="utf-8")
        (manifests / "all.yaml").chmod(0o644)
        capfd.readouterr()
        code = main(["apply", "--manifests", str(manifests), "--kernel", "simulated", *options])
        return Said(code, *capfd.readouterr())

    return call


def test_it_says_first_that_nothing_real_is_touched_and_then_shows_each_step(apply: Apply) -> None:
    said = apply(pool(), device("base", size="64MiB", filesystem={"type": "ext4"}), device("app", snapshotOf="base"))
    assert (said.code, said.err) == (CONVERGED, "")
    assert said.lines[0].startswith("simulated: nothing real is touched, and nothing is kept")
    assert said.lines[-1] == "converged: 3 records are as desired"
    shown = [line.partition("$ ")[2] for line in said.lines if "$ " in line]
    for step in ("fallocate -l 4194304 /srv/b/tank.meta", "dmsetup message tank 0 'create_snap 1 0'"):
        assert step in shown
    assert [step for step in shown if step.startswith("mkfs.ext4")] != []


def test_without_it_the_host_is_asked(tmp_path: Path, apply: Apply, capfd: pytest.CaptureFixture[str]) -> None:
    del apply  # which took libdevmapper away
    assert main(["apply", "--manifests", str(tmp_path), "--state-dir", str(tmp_path / "state")]) == 1
    assert "libdevmapper" in capfd.readouterr().err


def test_the_disks_that_are_named_are_there_and_how_large_they_are_is_said(apply: Apply) -> None:
    said = apply(pool(**DISKS), device("a", size="900GiB", filesystem={"type": "xfs"}))
    assert said.code == CONVERGED
    assert said.lines[0].endswith("with /dev/disk/by-id/data of 1TiB, /dev/nvme0n1p2 of 1GiB")


def test_a_pool_on_a_device_of_another_waits_for_that(apply: Apply) -> None:
    said = apply(
        pool(),
        device("disk", size="512MiB"),
        pool("inner", data={"device": "/dev/mapper/tank-disk"}, metadata={"device": "/dev/sdb"}),
    )
    assert said.code == CONVERGED
    assert said.lines[0].endswith("with /dev/sdb of 1GiB")
    assert re.search(r"inner:.*dmsetup create inner", said.out)


def test_a_snapshot_without_an_origin_ends_at_once_and_not_at_the_timeout(apply: Apply) -> None:
    said = apply(pool(), device("app", snapshotOf="gone"), options=("--timeout", "1h"))
    assert said.code == NOT_AS_DESIRED
    assert "tank/app: WaitingForOrigin" in said.err
    assert said.err.splitlines()[-1] == "1 record is not as desired, and only you can go on"


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        (
            [pool(), device("base", size="64MiB"), device("app", snapshotOf="base", size="32MiB")],
            "tank/app: InvalidChange",
        ),
        ([pool(external=True), device("a", adopt={"deviceId": 7, "dmName": "vg-a"})], "tank: PoolMissing"),
        ([pool(adopt=True), device("a", adopt={"deviceId": 7, "dmName": "vg-a"})], "tank/a: MetadataMismatch"),
    ],
)
def test_what_would_be_wrong_on_a_host_is_wrong_here(apply: Apply, records: list[dict[str, Any]], reason: str) -> None:
    said = apply(*records, options=("--timeout", "1h"))
    assert said.code == NOT_AS_DESIRED
    assert reason in said.err


def test_invalid_manifests_are_told_as_ever(apply: Apply) -> None:
    said = apply(pool(colour="red"))
    assert said.code == INVALID
    assert "colour" in said.err


def test_only_what_is_named_is_brought_up(apply: Apply) -> None:
    said = apply(pool(), device("a", size="1MiB"), device("b", size="1MiB"), options=("tank/a",))
    assert said.lines[-1] == "converged: 2 records are as desired"
    assert said.out.count("create_thin") == 1


def test_nothing_is_kept(apply: Apply, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setenv("DM_RECONCILER_APPLY_STATE_DIR", str(tmp_path / "state"))
    first = apply(pool(), device("a", size="1MiB"))
    assert first.code == apply(pool(), device("a", size="1MiB")).code == CONVERGED
    assert "create_thin 0" in first.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifests", "scratch"]
    assert list(scratch.iterdir()) == []


def test_a_state_directory_on_the_command_line_is_a_misunderstanding(apply: Apply, tmp_path: Path) -> None:
    said = apply(pool(), options=("--state-dir", str(tmp_path / "state")))
    assert said.code == USAGE
    assert "--state-dir is for the host" in said.err
    assert len(said.err.splitlines()) == 1


def test_pools_side_by_side_do_not_get_in_each_others_way(apply: Apply) -> None:
    """Each is a thread, and they share one host."""
    names = [f"p{number}" for number in range(8)]
    places = {
        name: {kind: {"file": f"/srv/{name}.{kind}", "size": "8MiB"} for kind in ("data", "metadata")} for name in names
    }
    records = [pool(name, **places[name]) for name in names]
    records += [device(f"d{number}", pool=name, size="1MiB") for name in names for number in range(3)]
    said = apply(*records)
    assert said.code == CONVERGED
    assert said.lines[-1] == "converged: 32 records are as desired"


def test_the_manifests_of_the_tree_converge(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["apply", "--manifests", str(TREE / "manifests"), "--kernel", "simulated"]) == CONVERGED
    assert capfd.readouterr().out.splitlines()[-1].startswith("converged: ")
