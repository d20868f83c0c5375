"""What scripts, dashboards and manifests of others depend on, word by word: a name that changes here breaks theirs.

More may be added, and is then added here. What is here stays: docs/reference says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import click
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families as parse

from reconciler.cli.console import ExitCode
from reconciler.cli.main import cli
from reconciler.controller.desired import Desired
from reconciler.model.conditions import DRIFT, EventType, Reason
from reconciler.model.dm_tables import PoolMode
from reconciler.model.live import LiveState
from reconciler.model.names import Key
from reconciler.model.recordset import Problem, RecordSet, Written
from reconciler.model.steps import HostStep
from reconciler.model.units import Bytes
from reconciler.sources.manifests.explain import json_schema
from reconciler.telemetry.collector import Exposition
from reconciler.telemetry.metrics import Metrics
from tests.simulation.simulated_daemon import device_record, pool_record
from tests.unit.telemetry.page.environments import Environment, device_status, pool_status

# Metrics: the type and the labels of each series.

METRICS = {
    "dm_reconciler_device_ready": "gauge pool device",
    "dm_reconciler_pool_ready": "gauge pool",
    "dm_reconciler_device_reason": "gauge pool device reason",
    "dm_reconciler_pool_reason": "gauge pool reason",
    "dm_reconciler_device_desired_state": "gauge pool device state",
    "dm_reconciler_pool_desired_state": "gauge pool state",
    "dm_reconciler_device_live_state": "gauge pool device state",
    "dm_reconciler_pool_live_state": "gauge pool state",
    "dm_reconciler_device_size_bytes": "gauge pool device",
    "dm_reconciler_device_mapped_bytes": "gauge pool device",
    "dm_reconciler_device_heals_total": "counter pool device",
    "dm_reconciler_pool_heals_total": "counter pool",
    "dm_reconciler_pool_mode": "gauge pool mode",
    "dm_reconciler_pool_data_used_bytes": "gauge pool",
    "dm_reconciler_pool_data_size_bytes": "gauge pool",
    "dm_reconciler_pool_data_limit_bytes": "gauge pool",
    "dm_reconciler_pool_metadata_used_bytes": "gauge pool",
    "dm_reconciler_pool_metadata_size_bytes": "gauge pool",
    "dm_reconciler_pool_metadata_limit_bytes": "gauge pool",
    "dm_reconciler_pool_leaked_thin_ids": "gauge pool",
    "dm_reconciler_pool_leaked_bytes": "gauge pool",
    "dm_reconciler_drift_detected_total": "counter kind reason",
    "dm_reconciler_heals_total": "counter kind reason result",
    "dm_reconciler_heal_duration_seconds": "histogram reason",
    "dm_reconciler_actions_total": "counter action result",
    "dm_reconciler_action_duration_seconds": "histogram action",
    "dm_reconciler_build_info": "gauge version kernel libdevmapper",
    "dm_reconciler_manifest_errors": "gauge",
    "dm_reconciler_manifest_last_load_timestamp_seconds": "gauge",
    "dm_reconciler_records": "gauge kind",
    "dm_reconciler_retained": "gauge kind",
    "dm_reconciler_store_writable": "gauge",
    "dm_reconciler_observe_only": "gauge",
    "dm_reconciler_turns_total": "counter",
    "dm_reconciler_reconcile_duration_seconds": "histogram kind",
    "dm_reconciler_resync_duration_seconds": "histogram kind",
    "dm_reconciler_resync_interval_seconds": "gauge kind",
    "dm_reconciler_workqueue_depth": "gauge name",
    "dm_reconciler_workqueue_adds_total": "counter name",
    "dm_reconciler_workqueue_retries_total": "counter name",
    "dm_reconciler_workqueue_queue_duration_seconds": "histogram name",
    "dm_reconciler_workqueue_work_duration_seconds": "histogram name",
    "dm_reconciler_workqueue_longest_running_seconds": "gauge name",
}
FULL_POOL = pool_status(
    "tank",
    data_limit=Bytes(1 << 40),
    metadata_limit=Bytes(1 << 30),
    transaction_id=4,
    leaked_ids=(3, 9),
    leaked=Bytes(8192),
)
FULL_DEVICE = device_status(
    Key("tank", "a"), device_id=7, origin="base", holders=("mounted at /srv/a",), beneath=Reason.SUSPENDED
)


def test_a_scrape_has_these_series_with_these_labels() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.build_info("1", "6.1", "1.02")
    metrics.status(FULL_POOL, "Active")
    metrics.status(FULL_DEVICE, "Active")
    for key in (FULL_POOL.key, FULL_DEVICE.key):
        metrics.healed(key.kind, Reason.SUSPENDED, "success", 0.1, key)
    told: dict[str, tuple[str, set[str]]] = {}
    for family in parse(Exposition(registry).answer("")[0].decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        if not name.endswith("_created"):
            labels = {label for sample in family.samples for label in sample.labels}
            told[name] = (family.type, labels - ({"le"} if family.type == "histogram" else set()))
    assert told == {name: (text.split()[0], set(text.split()[1:])) for name, text in METRICS.items()}


# Commands: options and arguments of each. An option's variable is DM_RECONCILER_COMMAND_OPTION.

COMMANDS = {
    "run": "--manifests --listen --resync --suspend-grace --prune-delay --log-format --node --observe --state-dir",
    "apply": (
        "--manifests --timeout --suspend-grace --prune-delay --allow-mass-prune --kernel --node --state-dir"
        " [POOL[/NAME]]..."
    ),
    "plan": "--manifests --node -o|--output --state-dir [POOL[/NAME]]...",
    "get": "KIND NAME -o|--output -w|--watch --state-dir",
    "tree": "--state-dir",
    "describe": "KIND NAME -o|--output --state-dir",
    "events": "[POOL[/NAME]] -f|--follow -n|--limit -o|--output --state-dir",
    "wait": "KIND NAME --timeout --state-dir",
    "validate": "PATH... --node",
    "schema": "",
    "doctor": "--manifests --node --fix -y|--yes -o|--output --state-dir",
    "forget": "KIND NAME -y|--yes --state-dir",
    "sandbox": "--share --mem --disk --timeout [-- COMMAND...]",
}
VARIABLES = """
    DM_RECONCILER_APPLY_ALLOW_MASS_PRUNE DM_RECONCILER_APPLY_KERNEL DM_RECONCILER_APPLY_MANIFESTS
    DM_RECONCILER_APPLY_NODE DM_RECONCILER_APPLY_PRUNE_DELAY DM_RECONCILER_APPLY_STATE_DIR
    DM_RECONCILER_APPLY_SUSPEND_GRACE DM_RECONCILER_APPLY_TIMEOUT
    DM_RECONCILER_DESCRIBE_OUTPUT DM_RECONCILER_DESCRIBE_STATE_DIR
    DM_RECONCILER_DOCTOR_FIX DM_RECONCILER_DOCTOR_MANIFESTS DM_RECONCILER_DOCTOR_NODE
    DM_RECONCILER_DOCTOR_OUTPUT DM_RECONCILER_DOCTOR_STATE_DIR DM_RECONCILER_DOCTOR_YES
    DM_RECONCILER_EVENTS_FOLLOW DM_RECONCILER_EVENTS_LIMIT DM_RECONCILER_EVENTS_OUTPUT
    DM_RECONCILER_EVENTS_STATE_DIR
    DM_RECONCILER_FORGET_STATE_DIR DM_RECONCILER_FORGET_YES
    DM_RECONCILER_GET_OUTPUT DM_RECONCILER_GET_STATE_DIR DM_RECONCILER_GET_WATCH
    DM_RECONCILER_PLAN_MANIFESTS DM_RECONCILER_PLAN_NODE DM_RECONCILER_PLAN_OUTPUT
    DM_RECONCILER_PLAN_STATE_DIR
    DM_RECONCILER_RUN_LISTEN DM_RECONCILER_RUN_LOG_FORMAT DM_RECONCILER_RUN_MANIFESTS
    DM_RECONCILER_RUN_NODE DM_RECONCILER_RUN_OBSERVE DM_RECONCILER_RUN_PRUNE_DELAY
    DM_RECONCILER_RUN_RESYNC DM_RECONCILER_RUN_STATE_DIR DM_RECONCILER_RUN_SUSPEND_GRACE
    DM_RECONCILER_SANDBOX_DISK DM_RECONCILER_SANDBOX_MEM DM_RECONCILER_SANDBOX_SHARE
    DM_RECONCILER_SANDBOX_TIMEOUT
    DM_RECONCILER_TREE_STATE_DIR
    DM_RECONCILER_VALIDATE_NODE
    DM_RECONCILER_WAIT_STATE_DIR DM_RECONCILER_WAIT_TIMEOUT
"""


def contexts() -> Iterator[click.Context]:
    """One of each command, with the variables' prefix that the program itself gives it."""
    with click.Context(cli, info_name="dm-reconciler", **cli.context_settings) as program:
        for name in cli.list_commands(program):
            command = cli.get_command(program, name)
            assert command is not None
            yield click.Context(command, info_name=name, parent=program)


def shown(parameter: click.Parameter) -> str:
    return "|".join(parameter.opts) if isinstance(parameter, click.Option) else parameter.human_readable_name


def test_the_commands_take_these_options() -> None:
    told = {context.info_name: [shown(each) for each in context.command.params] for context in contexts()}
    # An argument in brackets that has a blank is one word here.
    expected = {name: text.replace("[-- ", "[--\0").split() for name, text in COMMANDS.items()}
    assert told == {name: [word.replace("\0", " ") for word in words] for name, words in expected.items()}


def test_the_options_have_these_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = VARIABLES.split()
    for name in expected:
        monkeypatch.setenv(name, f"of {name}")
    read = [
        value
        for context in contexts()
        for parameter in context.command.params
        if (value := parameter.resolve_envvar_value(context)) is not None
    ]
    options = [each for context in contexts() for each in context.command.params if isinstance(each, click.Option)]
    assert sorted(read) == sorted(f"of {name}" for name in expected)
    assert len(read) == len(options)


def test_the_exit_codes_are_these() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "FINE": 0,
        "NOT_DONE": 1,
        "USAGE": 2,
        "INVALID": 3,
        "NOT_AS_DESIRED": 4,
    }


# Words: values of labels and of fields.

DRIFTS = """
    NotCreated InactiveButDesiredActive ActiveButDesiredInactive CommittedButActive Suspended WrongTable WrongSize
    InactiveTableLeft TablelessShell DeferredRemovePending NodeMissing PresentButDesiredAbsent Orphaned LeakedThinId
    PoolMissing PoolSuspended PoolTableWrong PoolLow LoopDetached
"""
OTHERS = """
    Busy Conflict PoolUnhealthy WaitingForPool WaitingForOrigin Paused InvalidChange MetadataMismatch KernelError Stuck
    Converged
"""
ACTIONS = """
    activate activate_pool attach_loop cancel_deferred_remove clear confirm_empty create_snap create_thin delete_file
    delete_thin detach_loop discard grow_file grow_filesystem load load_pool make_file make_writable mkfs refresh_nodes
    remove remove_pool resume set_transaction_id thin_check zero_superblock
"""


def test_the_reasons_are_these() -> None:
    assert {reason.value for reason in DRIFT} == set(DRIFTS.split())
    assert {reason.value for reason in Reason} - {reason.value for reason in DRIFT} == set(OTHERS.split())


def test_the_actions_are_these() -> None:
    assert {step.action for step in HostStep.__subclasses__()} == set(ACTIONS.split())


def test_the_other_words_are_these() -> None:
    assert [word.value for word in EventType] == ["Found", "Healed", "Failed", "Blocked", "Info"]
    assert [word.value for word in LiveState] == ["Active", "Inactive", "Suspended", "Absent", "Unknown"]
    assert [word.value for word in PoolMode] == [
        "rw",
        "ro",
        "out_of_data_space",
        "needs_check",
        "fail",
        "error",
        "missing",
    ]


# JSON over HTTP: what each field holds, by its path. `|` where it may be either.

ITEM = {
    "kind": "str",
    "metadata.name": "str",
    "record.file": "str",
    "record.line": "int",
    "spec": "null",
}
STATUS = {
    "status": "null",
    "status.live": "str",
    "status.ready": "bool",
    "status.good": "bool",
    "status.reason": "str",
    "status.message": "str",
    "status.since": "str",
    "status.dmName": "str",
    "status.uuid": "str",
}
HTTP = {
    "pools": {
        **ITEM,
        **STATUS,
        "status.mode": "str",
        "status.dataUsedBytes": "int|null",
        "status.dataSizeBytes": "int|null",
        "status.metadataUsedBytes": "int|null",
        "status.metadataSizeBytes": "int|null",
        "status.transactionId": "int|null",
        "status.leakedThinIds": "null",
        "status.leakedThinIds[]": "int",
        "status.leakedBytes": "int|null",
    },
    "devices": {
        **ITEM,
        **STATUS,
        "status.deviceId": "int|null",
        "status.sizeBytes": "int|null",
        "status.mappedBytes": "int|null",
        "status.snapshotOf": "null|str",
        "status.holders[]": "str",
    },
    "events": {
        "kind": "str",
        "metadata.name": "str",
        "type": "str",
        "reason": "str",
        "message": "str",
        "time": "str",
        "first": "str",
        "count": "int",
        "seconds": "float|null",
        "object.kind": "str",
        "object.name": "str",
    },
    "daemon": {
        "kind": "str",
        "metadata.name": "str",
        "spec": "null",
        "status.version": "str",
        "status.time": "str",
        "status.healthy": "bool",
        "status.ready": "bool",
        "status.message": "str",
        "status.observeOnly": "bool",
        "status.manifestProblems[]": "str",
        "status.storeTrouble": "null",
        "status.storeTroubleSince": "null",
    },
}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Path and type of all that is no object or list."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(part, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for part in value:
            yield from leaves(part, f"{path}[]")
    else:
        yield path, "null" if value is None else type(value).__name__


def types_of(items: list[Any]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for path, kind in leaves(items):
        found.setdefault(path.removeprefix("[]."), set()).add(kind)
    return {path: "|".join(sorted(kinds)) for path, kinds in found.items()}


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Environment]:
    """All that can be told: of records, of what is none any more, of what nobody has looked at, and of what nobody knows."""
    with closing(Environment(tmp_path)) as environment:
        pools = [pool_record("tank"), pool_record("new"), pool_record("gone")]
        devices = [device_record(name, pool="tank") for name in ("a", "b", "new")]
        keys = [*(record.key for record in pools), *(record.key for record in devices)]
        records = RecordSet.of([*pools, *devices], {key: Written("tank.yaml", 1) for key in keys})
        environment.simulated.controller.set_desired(Desired.of(records, time.monotonic()))
        environment.found(pools[0], FULL_POOL)
        unknown: dict[str, Any] = {"data_used": None, "data_size": None, "metadata_used": None, "metadata_size": None}
        environment.found(pools[2], pool_status("gone", Reason.POOL_MISSING, mode=PoolMode.MISSING, **unknown))
        environment.found(devices[0], FULL_DEVICE)
        environment.found(devices[1], device_status(devices[1].key, Reason.WAITING_FOR_POOL, size=None, mapped=None))
        environment.found(None, pool_status("kept", Reason.ORPHANED, good=True), retained=True)
        environment.found(None, device_status(Key("tank", "kept"), Reason.ORPHANED, good=True), retained=True)
        environment.recorder.event(Key("tank", "a"), EventType.HEALED, "Suspended", "by itself", seconds=0.25)
        environment.recorder.event(Key("tank"), EventType.INFO, "Noted", "x")
        environment.status_api.problems = lambda: [Problem("tank.yaml", 1, 1, "", "wrong")]
        yield environment


@pytest.mark.parametrize("what", HTTP)
def test_an_answer_has_these_fields(serving: Environment, what: str) -> None:
    with urlopen(f"{serving.url}/api/v1/{what}") as answer:  # noqa: S310  # of this test's own server
        told = json.load(answer)
    assert list(told) == ["items"]
    fields = types_of(told["items"])
    # The fields of a spec are those of the schema.
    assert {path: kind for path, kind in fields.items() if not path.startswith("spec.")} == HTTP[what]


def test_the_trouble_of_a_store_is_text(serving: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(serving.store), "trouble", property(lambda _: "its disk is full"))
    fields = types_of(serving.status_api.daemon())
    assert (fields["status.storeTrouble"], fields["status.storeTroubleSince"]) == ("str", "str")


# Manifests: the schema's parts, and what each holds. `*` is what must be there.

SCHEMA = {
    "ThinPool": "apiVersion* kind* metadata* spec*",
    "ThinDevice": "apiVersion* kind* metadata* spec*",
    "Metadata": "name*",
    "PoolSpec": (
        "state data metadata blockSize lowWaterMark whenFull discards zeroNewBlocks extend prune external adopt"
        " foreignThins paused nodes localDisk"
    ),
    "DeviceSpec": "pool* state size snapshotOf filesystem readOnly discardOnDelete paused adopt",
    "Backing": "device file size preallocate",
    "Extend": "threshold* step* max*",
    "Filesystem": "type* label blockSize discard",
    "Adopt": "deviceId* dmName*",
    "PoolState": "=Active =Inactive =Absent",
    "DeviceState": "=Active =Inactive =Committed =Absent",
    "Prune": "=Retain =Deactivate =Delete",
}


def test_the_schema_has_these_parts_and_properties() -> None:
    told = {
        name: {
            *(f"{each}*" if each in part.get("required", []) else each for each in part.get("properties", {})),
            *(f"={word}" for word in part.get("enum", [])),
        }
        for name, part in json_schema()["$defs"].items()
    }
    assert told == {name: set(text.split()) for name, text in SCHEMA.items()}
