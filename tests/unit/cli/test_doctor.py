"""`doctor`: what it prints, what it asks, and how it ends. What it finds on a kernel is in tests/e2e/test_doctor.py."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from reconciler.cli import doctor
from reconciler.doctor.checks import Check, Repair, Severity
from reconciler.doctor.host import Needs, check_programs, count_cookies
from reconciler.doctor.report import DoctorOptions, Report
from reconciler.doctor.report import examine as really_examine
from reconciler.doctor.state import check_run_folder, check_state
from reconciler.kernel.locks import PoolLock
from reconciler.model.errors import HostError
from reconciler.model.names import Key
from reconciler.store.lock import LockHeld, StateLock
from reconciler.store.store import Store

FINE = Check("udev", Severity.OK, "it runs")
BAD = Check("thin_ls", Severity.WRONG, "not installed", "`apt-get install thin-provisioning-tools`")
DARK = Check("pool tank", Severity.UNKNOWN, "cannot be looked at")
LEFT = Check("mkfs.xfs", Severity.LEFT, "not installed, and no record asks for it")
SEMAPHORES = """       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime
 223176704          0   600          1     0     0     0     0 1700000000 1700000000
1836018945          1   600          1     0     0     0     0          0 1700000000
 223150081          2   600          1     0     0     0     0 1700000000 1700000000
-223150081          3   600          1     0     0     0     0 1700000000 1700000000
"""


def repair(what: str) -> Repair:
    return Repair(Key("tank"), what, "it is wrong", ("it is put right",), ())


class Patient:
    """Stands for the host: what it offers, and what was done to it."""

    pools = ("tank",)

    def __init__(self, *offers: Repair) -> None:
        self.ill = list(offers)
        self.done: list[str] = []
        self.fault: HostError | None = None
        self.changes = 0
        """So many looks later, something changes by itself."""

    def offers(self, pool: str) -> list[Repair]:
        assert pool == "tank"
        if self.changes:
            self.changes -= 1
            if not self.changes:
                self.ill = []
        return list(self.ill)

    def wrong(self, pool: str) -> list[Check]:
        assert pool == "tank"
        return [DARK] if self.ill else []

    def carry_out(self, pool: str, repair: Repair) -> HostError | None:
        assert pool == "tank"
        if self.fault is None:
            self.done.append(repair.what)
            self.ill.remove(repair)
        return self.fault


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> object:
    return Caller(monkeypatch, tmp_path)


class Caller:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self._folder = folder

    def __call__(
        self,
        *words: str,
        checks: tuple[Check, ...] = (FINE,),
        looked: bool = True,
        patient: Patient | None = None,
        answers: str = "",
    ) -> Result:
        @contextmanager
        def repair_session(asked: DoctorOptions, agreed: object) -> Iterator[Patient]:  # noqa: ARG001
            assert asked.state_dir == self._folder
            assert patient is not None
            yield patient

        self._monkeypatch.setattr(doctor, "examine", lambda *_: Report(checks, looked, "`look`"))
        if patient is not None:
            self._monkeypatch.setattr(doctor, "repair_session", repair_session)
        if answers:
            self._monkeypatch.setattr("reconciler.cli.console._somebody_is_there", lambda: True)
        return CliRunner().invoke(doctor.command, ["--state-dir", str(self._folder), *words], input=answers)


@pytest.mark.parametrize(
    ("checks", "looked", "code", "last"),
    [
        ((FINE, LEFT), True, 0, "next: `look`"),
        ((FINE, BAD, BAD), True, 4, "  1. `apt-get install thin-provisioning-tools`"),
        ((FINE, DARK), True, 4, "what is marked [??] could not be looked at; of the rest, there is nothing to do"),
        ((FINE, BAD), False, 1, "  1. `apt-get install thin-provisioning-tools`"),
    ],
)
def test_it_ends_with_what_to_do(call: Caller, checks: tuple[Check, ...], looked: bool, code: int, last: str) -> None:
    result = call(checks=checks, looked=looked)
    assert result.exit_code == code
    assert result.stdout.splitlines()[-1] == last


def test_each_check_is_one_line_with_a_mark_that_needs_no_colour(call: Caller) -> None:
    said = call(checks=(FINE, BAD, DARK, LEFT, Check("pool x", Severity.WRONG, "two\nlines \x1b[31m"))).stdout
    assert said.splitlines()[:5] == [
        "[ok] udev: it runs",
        "[!!] thin_ls: not installed",
        "[??] pool tank: cannot be looked at",
        "[--] mkfs.xfs: not installed, and no record asks for it",
        "[!!] pool x: two lines \\x1b[31m",
    ]


def test_json_has_the_shape_of_all_others(call: Caller) -> None:
    result = call("-o", "json", checks=(FINE, BAD))
    assert result.exit_code == 4
    said = json.loads(result.stdout)
    assert said["todo"] == [BAD.todo]
    assert said["items"][1] == {
        "kind": "Check",
        "metadata": {"name": "thin_ls"},
        "spec": None,
        "status": {"result": "wrong", "message": "not installed", "todo": BAD.todo},
    }


@pytest.mark.parametrize("words", [["--yes"], ["--fix", "-o", "json"], ["--fix"]])
def test_wrong_usage(call: Caller, words: list[str]) -> None:
    """The last one: nobody can be asked."""
    assert call(*words, patient=Patient()).exit_code == 2


def test_repairs_are_asked_for_one_by_one(call: Caller) -> None:
    patient = Patient(repair("mend this"), repair("mend that"))
    result = call("--fix", patient=patient, answers="n\ny\n")
    assert patient.done == ["mend that"]
    assert "mend this\n  why: it is wrong\n  effect: it is put right\n" in result.stdout
    assert "left as it is" in result.stdout
    assert "done; looked again: pool tank: cannot be looked at" in result.stdout
    assert "1 repair done" in result.stdout


def test_all_are_agreed_to_at_once(call: Caller) -> None:
    patient = Patient(repair("mend this"), repair("mend that"))
    result = call("--fix", "--yes", patient=patient)
    assert patient.done == ["mend this", "mend that"]
    assert "2 repairs done" in result.stdout
    assert "pool tank is fit" in result.stdout


def test_what_is_no_longer_so_after_the_answer_is_not_done(call: Caller) -> None:
    patient = Patient(repair("mend this"))
    patient.changes = 2
    result = call("--fix", patient=patient, answers="y\n")
    assert patient.done == []
    assert "changed meanwhile" in result.stdout
    assert "no repairs done" in result.stdout


def test_a_repair_that_fails_is_told_and_not_tried_for_ever(call: Caller) -> None:
    patient = Patient(repair("mend this"))
    patient.fault = HostError("delete", "tank", 16, "busy")
    result = call("--fix", "--yes", patient=patient)
    assert "delete tank failed (EBUSY): busy" in result.stderr
    assert "no repairs done" in result.stdout


def test_while_the_daemon_runs_it_says_how_to_stop_it(call: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def held(asked: DoctorOptions, agreed: object) -> Iterator[Patient]:  # noqa: ARG001
        raise LockHeld(asked.state_dir, 4711, "dm-reconciler run", 0.0)
        yield

    monkeypatch.setattr(doctor, "repair_session", held)
    result = call("--fix", "--yes")
    assert result.exit_code == 1
    assert "`systemctl stop dm-reconciler`, or `kill 4711`" in result.stderr


# What is found without a kernel


def test_everything_that_can_be_told_without_device_mapper_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def none(_: object) -> tuple[str, str]:
        raise HostError("version", "device-mapper", 13)

    monkeypatch.setattr("reconciler.kernel.dm.device_mapper.LibDm.versions", none)
    (tmp_path / "bad.yaml").write_text("kind: Nothing\n")
    state = tmp_path / "state"
    Store.open(state, wall_clock=lambda: 0.0).close()
    said: list[str] = []
    with StateLock(state):
        report = really_examine(DoctorOptions(state, tmp_path, "here"), said.append)
    assert said == ["looking at this host"]
    marks = {check.subject: check.mark for check in report.checks}
    assert not report.looked
    assert marks["device-mapper"] is Severity.UNKNOWN
    assert marks["store"] is marks["state directory"] is marks["daemon"] is Severity.OK
    assert marks["manifests"] is Severity.WRONG
    assert any(f"dm-reconciler validate {tmp_path}" in todo for todo in report.todo)
    assert "run it as root: `sudo dm-reconciler doctor`" in report.todo
    assert report.next_step == f"`dm-reconciler get --state-dir {state}` shows what the daemon makes of it"


def test_on_a_fit_host_it_says_so_and_what_comes_next(call: Caller) -> None:
    assert call(checks=(FINE, LEFT)).stdout.splitlines()[-2:] == ["nothing to do: this host is fit", "next: `look`"]


def test_what_comes_next_is_what_was_not_done_yet(tmp_path: Path) -> None:
    asked = DoctorOptions(Path("/var/lib/dm-reconciler"), tmp_path, "here")
    assert "systemctl start" in asked.next_step(daemon_runs=False, pools=True)
    assert f"`dm-reconciler plan --manifests {tmp_path}`" in asked.next_step(daemon_runs=False, pools=True)
    assert asked.next_step(daemon_runs=False, pools=False).startswith("write manifests; `dm-reconciler plan")
    assert asked.next_step(daemon_runs=True, pools=True).startswith("`dm-reconciler get` ")


def test_a_state_directory_that_others_may_write_is_wrong(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (check,) = check_state(tmp_path).checks
    assert check.mark is Severity.WRONG
    assert "chmod go-w" in check.todo


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr("reconciler.doctor.state.FOLDER", folder)
    return folder


def test_a_folder_of_locks_that_others_may_write_is_wrong(run_folder: Path, tmp_path: Path) -> None:
    run_folder.chmod(0o777)
    (check,) = check_run_folder(tmp_path)
    assert check.mark is Severity.WRONG
    assert check.message == (
        "others may write it (mode 0777): whoever may write to it could keep the daemon from its pools"
    )
    assert check.todo == f"`chown root {run_folder} && chmod 0700 {run_folder}`"


def test_a_folder_of_locks_is_made_by_the_daemon(run_folder: Path, tmp_path: Path) -> None:
    run_folder.rmdir()
    (check,) = check_run_folder(tmp_path)
    assert check.mark is Severity.LEFT
    assert "not there yet" in check.message


def test_pools_that_another_state_directory_works_on_are_told(run_folder: Path, tmp_path: Path) -> None:
    locks = {pool: PoolLock(pool, run_folder) for pool in ("own", "other", "free")}
    locks["own"].take(str(tmp_path))
    locks["other"].take("/elsewhere")
    locks["free"].take("/elsewhere")
    locks["free"].close()
    (run_folder / "odd.lock").symlink_to("nowhere")
    (check,) = check_run_folder(tmp_path)
    assert check.mark is Severity.LEFT
    assert check.message == f"pool other is worked on by process {os.getpid()} (state in /elsewhere)"
    locks["other"].close()
    (check,) = check_run_folder(tmp_path)
    assert check.mark is Severity.OK
    locks["own"].close()


def test_a_store_that_cannot_be_read_is_wrong(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "state.db").write_bytes(b"nothing")
    check = next(check for check in check_state(state).checks if check.subject == "store")
    assert check.mark is Severity.WRONG
    assert "restore a copy" in check.todo


def test_what_no_record_needs_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, **_: None if "xfs" in name or "thin" in name else name)
    without = {check.subject: check for check in check_programs(Needs())}
    assert without["mkfs.xfs"].mark is Severity.LEFT
    assert without["thin_ls"].todo == "`apt-get install thin-provisioning-tools`"
    needed = {check.subject: check for check in check_programs(Needs(frozenset({"xfs"})))}
    assert needed["mkfs.xfs"].todo == "`apt-get install xfsprogs`"


def test_cookies_are_told_from_other_semaphores() -> None:
    assert count_cookies(SEMAPHORES) == 2
