"""Bad input on a real kernel: one clear line, the promised exit code, and a kernel in which nothing has changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testing.environment import Environment, an_environment
from tests.testing.real_kernel import MIB, Run, run

pytestmark = pytest.mark.soak

INVALID, NOT_AS_DESIRED = 3, 4
POOL = "apiVersion: dm-reconciler/v1\nkind: ThinPool\nmetadata: {name: NAME}\nspec: {data: {file: /srv/d, size: 1GiB}, metadata: {file: /srv/m, size: 4MiB}}\n"
DEVICE = "apiVersion: dm-reconciler/v1\nkind: ThinDevice\nmetadata: {name: NAME}\nspec: {pool: p, size: SIZE}\n"


def a_pool(name: str = "p") -> str:
    return POOL.replace("NAME", name)


def a_device(name: str = "a", size: str = "16MiB") -> str:
    return f"{a_pool()}---\n{DEVICE.replace('NAME', name).replace('SIZE', size)}"


def a_cycle() -> str:
    one = DEVICE.replace("NAME", "a").replace("size: SIZE", "snapshotOf: b")
    other = DEVICE.replace("NAME", "b").replace("size: SIZE", "snapshotOf: a")
    return f"{a_pool()}---\n{one}---\n{other}"


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(8)
)
TEXTS = {
    "broken YAML": "kind: [",
    "an unknown kind": a_pool().replace("ThinPool", "Thinpool"),
    "an unknown field": a_pool().replace("spec: {", "spec: {colour: red, "),
    "a bomb of aliases": BOMB,
    "a name with a slash": a_device("a/b"),
    "a name with a blank": a_device("'a b'"),
    "a name of two dots": a_device("'..'"),
    "a name with a control character": a_device('"a\\u0007"'),
    "a name of 200 characters": a_device("a" * 200),
    "a negative size": a_device(size="-16MiB"),
    "an absurd size": a_device(size="99999999999999999999999"),
    "a size off the sector grid": a_device(size="1000"),
    "two records with one name": f"{a_pool()}---\n{a_pool()}",
    "a cycle of snapshots": a_cycle(),
}


@pytest.fixture(scope="module")
def env() -> Iterator[Environment]:
    with an_environment() as env:
        yield env


@pytest.fixture(autouse=True)
def _empty(env: Environment) -> Iterator[None]:
    yield
    for file in env.manifests.iterdir():
        file.unlink()


def the_kernel() -> str:
    """Every device and loop of the host."""
    return "\n".join(run(*words).out for words in (["dmsetup", "table"], ["losetup", "--list"], ["ls", "/srv"]))


def applied(env: Environment, code: int) -> Run:
    """What `apply` says, which leaves the kernel as it was."""
    before = the_kernel()
    said = env.cli("apply", "--manifests", str(env.manifests), "--timeout", "5s", check=False)
    assert said.code == code, said
    assert "Traceback" not in said.err
    assert the_kernel() == before
    return said


def test_invalid_sets_are_refused_in_one_line_that_says_where(env: Environment) -> None:
    """All in one test, as starting a program takes its time inside the sandbox."""
    for what, text in TEXTS.items():
        file = env.manifests / "bad.yaml"
        file.write_text(text, encoding="utf-8")
        said = env.cli("validate", str(file), check=False)
        assert said.code == INVALID, (what, said)
        lines = said.err.splitlines()
        assert all(str(file) in line for line in lines if "bad.yaml" in line), (what, said)
        assert f"{file}:" in lines[0], (what, said)
        assert "Traceback" not in said.err, (what, said)


@pytest.mark.security("S19")
@pytest.mark.parametrize("what", ["broken YAML", "a bomb of aliases", "a cycle of snapshots"])
def test_apply_refuses_what_validate_refuses(env: Environment, what: str) -> None:
    (env.manifests / "bad.yaml").write_text(TEXTS[what], encoding="utf-8")
    assert "bad.yaml:" in applied(env, INVALID).err


def test_a_huge_file_is_refused_without_being_read(env: Environment) -> None:
    with (env.manifests / "huge.yaml").open("wb") as file:
        file.truncate(50 * MIB)
    assert "huge.yaml" in applied(env, INVALID).err


def test_binary_is_refused(env: Environment) -> None:
    (env.manifests / "binary.yaml").write_bytes(bytes(range(256)))
    assert "binary.yaml" in applied(env, INVALID).err


def test_what_cannot_be_read_is_refused(env: Environment) -> None:
    (env.manifests / "gone.yaml").symlink_to("nowhere.yaml")
    assert "gone.yaml" in applied(env, INVALID).err


def test_a_directory_that_is_not_there_is_refused(env: Environment) -> None:
    said = env.cli("apply", "--manifests", str(env.root / "vanished"), check=False)
    assert said.code == INVALID
    assert "vanished" in said.err


def test_a_path_to_a_character_device_is_a_conflict(env: Environment) -> None:
    env.declare(env.pool("char", data={"device": "/dev/null"}, metadata={"device": "/dev/zero"}))
    assert "Conflict" in applied(env, NOT_AS_DESIRED).err


@pytest.mark.security("S17")
def test_a_mounted_disk_is_a_conflict_that_names_the_mount(env: Environment, tmp_path: Path) -> None:
    disk = env.root / "disk"
    with disk.open("wb") as file:
        file.truncate(32 * MIB)
    run("mkfs.ext4", "-q", str(disk))
    loop = run("losetup", "--find", "--show", str(disk)).out
    try:
        run("mount", loop, str(tmp_path))
        env.declare(env.pool("mounted", data={"device": loop}))
        said = applied(env, NOT_AS_DESIRED)
        assert "Conflict" in said.err
        assert str(tmp_path) in said.err
    finally:
        run("umount", str(tmp_path))
        run("losetup", "--detach", loop)


@pytest.mark.security("S17")
def test_a_disk_with_a_filesystem_is_a_conflict_that_names_it(env: Environment) -> None:
    disk = env.root / "used"
    with disk.open("wb") as file:
        file.truncate(32 * MIB)
    run("mkfs.ext4", "-q", str(disk))
    loop = run("losetup", "--find", "--show", str(disk)).out
    try:
        env.declare(env.pool("used", data={"device": loop}))
        assert "ext4" in applied(env, NOT_AS_DESIRED).err
    finally:
        run("losetup", "--detach", loop)


def test_writable_by_others_is_refused(env: Environment) -> None:
    env.declare(env.pool())
    (env.manifests / "all.yaml").chmod(0o666)
    assert "chmod" in applied(env, INVALID).err
