"""Starting programs: with those that every machine has."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from reconciler.kernel import programs
from reconciler.kernel.programs import Said, run
from reconciler.model.errors import HostError


def test_what_is_said_is_kept_apart() -> None:
    assert run(["sh", "-c", "echo one; echo two >&2"], "x") == Said(0, "one\n", "two\n")


def test_the_last_line_is_the_reason() -> None:
    with pytest.raises(HostError) as failed:
        run(["sh", "-c", "echo version 1 >&2; echo no room >&2; exit 3"], "/dev/x")
    assert str(failed.value) == "sh /dev/x failed: no room"


def test_usage_is_no_reason() -> None:
    assert Said(1, "", "too small\nUsage: mkfs\n/* options */ [-b]\n").last_line == "too small"


def test_output_is_the_reason_where_there_are_no_errors() -> None:
    assert Said(4, "checking\nUNEXPECTED INCONSISTENCY\n\n", "").last_line == "UNEXPECTED INCONSISTENCY"


def test_silence_is_told_by_its_status() -> None:
    with pytest.raises(HostError, match="ended with status 7"):
        run(["sh", "-c", "exit 7"], "x")
    with pytest.raises(HostError, match="ended with status -9"):
        run(["sh", "-c", "kill -9 $$"], "x")


def test_what_is_fine_is_no_failure() -> None:
    assert run(["sh", "-c", "exit 1"], "x", fine=(0, 1)).status == 1


def test_programs_speak_one_language_and_get_no_input() -> None:
    assert run(["sh", "-c", "echo $LC_ALL; cat"], "x").output == "C\n"


@pytest.mark.security("S12")
def test_administrators_programs_are_found_and_none_where_this_happens_to_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", ":.:bin:/bin:")
    assert run(["sh", "-c", "echo $PATH"], "x").output == "/bin:/usr/sbin:/sbin\n"


@pytest.mark.security("S10")
def test_programs_inherit_nothing_that_tells_them_what_to_load_or_where_to_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "MKE2FS_CONFIG", "BLKID_FILE", "TMPDIR", "LANG", "HOME", "BASH_ENV"):
        monkeypatch.setenv(name, str(tmp_path / "evil"))
    told = run(["env"], "x").output.splitlines()
    assert {line.partition("=")[0] for line in told} <= {"PATH", "LC_ALL", "GLIBC_TUNABLES"}


@pytest.mark.security("S11")
def test_programs_stand_in_no_place_of_ours_and_hold_no_files_of_ours(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w", encoding="utf-8") as ours:
        os.set_inheritable(ours.fileno(), True)
        said = run(["sh", "-c", "pwd; ls -l /proc/self/fd"], "x").output
    assert said.startswith("/\n")
    assert "secret" not in said
    assert "0 -> /dev/null" in said


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_PACKAGES", {"no-such-program": "its-package"})
    with pytest.raises(HostError, match="apt-get install its-package") as missing:
        run(["no-such-program"], "x")
    assert missing.value.errno == errno.ENOENT


def test_both_pipes_are_read_at_once() -> None:
    said = run(["sh", "-c", "head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero"], "x")
    assert len(said.output) == 300000
    assert len(said.errors) == 16 * 1024


@pytest.mark.security("S13")
def test_endless_output_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_MOST_OUTPUT", 100000)
    with pytest.raises(HostError) as flooded:
        run(["cat", "/dev/zero"], "x")
    assert flooded.value.errno == errno.E2BIG
