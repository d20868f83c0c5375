"""deploy/kubernetes against the schemas of Kubernetes, against the daemon, and as the kubelet mounts it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from reconciler import __version__
from reconciler.cli.params import STATE_DIR
from reconciler.cli.run import command
from reconciler.kernel.locks import FOLDER
from reconciler.model.names import Key
from reconciler.sources.manifests.read import load

TREE = Path(__file__).parents[3]
FOLDER_OF_ALL = TREE / "deploy/kubernetes"
VERSIONS = ("1.30", "1.34", kubernetes_validate.latest_version())
Object = dict[str, Any]


def kustomization() -> Object:
    found: Object = yaml.safe_load((FOLDER_OF_ALL / "kustomization.yaml").read_text(encoding="utf-8"))
    return found


def objects() -> Iterator[Object]:
    """As they are applied, but for the namespace and the image, which the kustomization adds."""
    for file in kustomization()["resources"]:
        yield from yaml.safe_load_all((FOLDER_OF_ALL / file).read_text(encoding="utf-8"))


def the(kind: str) -> Object:
    (found,) = [each for each in objects() if each["kind"] == kind]
    return found


def pod() -> Object:
    found: Object = the("DaemonSet")["spec"]["template"]["spec"]
    return found


def container() -> Object:
    (found,) = pod()["containers"]
    return dict(found)


def mounts() -> dict[str, str]:
    """Where each path of the host is in the container."""
    paths = {one["name"]: one["hostPath"]["path"] for one in pod()["volumes"] if "hostPath" in one}
    return {paths[one["name"]]: one["mountPath"] for one in container()["volumeMounts"] if one["name"] in paths}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("each", [pytest.param(each, id=each["kind"]) for each in objects()])
def test_kubernetes_knows_every_field(each: Object, version: str) -> None:
    kubernetes_validate.validate(each, version, strict=True)


def test_it_would_find_a_field_that_is_none() -> None:
    wrong = the("DaemonSet")
    wrong["spec"]["template"]["spec"]["hostPid"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="hostPid"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def test_the_kustomization_names_every_file_and_this_version() -> None:
    there = {path.name for path in FOLDER_OF_ALL.iterdir()} - {"kustomization.yaml"}
    assert set(kustomization()["resources"]) == there
    (image,) = kustomization()["images"]
    assert image["name"] == container()["image"]
    assert image["newTag"] == __version__


# The pod and the daemon


def test_it_has_no_rights_in_the_cluster() -> None:
    assert {each["kind"] for each in objects()} == {"Namespace", "ServiceAccount", "ConfigMap", "DaemonSet", "Service"}
    assert the("ServiceAccount")["automountServiceAccountToken"] is False
    assert pod()["automountServiceAccountToken"] is False
    assert pod()["serviceAccountName"] == the("ServiceAccount")["metadata"]["name"]


def test_it_works_on_the_hosts_devices_processes_and_udev() -> None:
    assert [pod()[name] for name in ("hostNetwork", "hostIPC", "hostPID")] == [True] * 3
    context = container()["securityContext"]
    assert context["privileged"] is True
    assert "allowPrivilegeEscalation" not in context, "the API server refuses false together with privileged"
    there = mounts()
    assert {"/dev", "/run/udev", str(FOLDER), STATE_DIR} < there.keys()
    assert {host: inside for host, inside in there.items() if host != inside} == {}


def test_what_it_writes_to_in_a_read_only_container_is_mounted() -> None:
    assert container()["securityContext"]["readOnlyRootFilesystem"] is True
    (tmp,) = [one["name"] for one in container()["volumeMounts"] if one["mountPath"] == "/tmp"]
    assert [one["emptyDir"]["medium"] for one in pod()["volumes"] if one["name"] == tmp] == ["Memory"]


def test_settings_are_options_of_the_daemon_and_records_are_matched_by_the_nodes_name() -> None:
    values = {one["name"]: one.get("value") or one["valueFrom"]["fieldRef"]["fieldPath"] for one in container()["env"]}
    options = {f"DM_RECONCILER_RUN_{one.name}".upper() for one in command.params}
    assert {name for name in values if name.startswith("DM_")} <= options
    assert values["NODE_NAME"] == "spec.nodeName"
    assert values["DM_RECONCILER_RUN_NODE"] == "$(NODE_NAME)"
    referred = re.findall(r"\$\((\w+)\)", " ".join(values.values()))
    names = [one["name"] for one in container()["env"]]
    assert all(names.index(name) < names.index("DM_RECONCILER_RUN_NODE") for name in referred), "defined before use"


def test_probes_and_scrapers_ask_where_it_listens() -> None:
    (listen,) = [one["value"] for one in container()["env"] if one["name"] == "DM_RECONCILER_RUN_LISTEN"]
    (port,) = container()["ports"]
    assert listen.endswith(f":{port['containerPort']}")
    probes = {name: container()[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    assert [probes[name]["path"] for name in ("startup", "liveness", "readiness")] == [
        "/healthz",
        "/healthz",
        "/readyz",
    ]
    (served,) = the("Service")["spec"]["ports"]
    assert (served["port"], served["targetPort"]) == (port["containerPort"], port["name"])
    asked = [the("Service")["metadata"], the("DaemonSet")["spec"]["template"]["metadata"]]
    for metadata in asked:
        assert metadata["annotations"]["prometheus.io/port"] == str(port["containerPort"])
        assert metadata["annotations"]["prometheus.io/path"] == "/metrics"


def test_there_is_one_on_every_node_and_never_two() -> None:
    assert pod()["tolerations"] == [{"operator": "Exists"}]
    assert pod()["priorityClassName"] == "system-node-critical"
    assert the("DaemonSet")["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
    assert pod()["terminationGracePeriodSeconds"] >= 30


# The records


def as_mounted(folder: Path, generation: str, content: dict[str, str]) -> None:
    """What the kubelet does when a ConfigMap changes: a new folder, and then one link to it, in one go."""
    (folder / generation).mkdir(parents=True)
    for name, text in content.items():
        (folder / generation / name).write_text(text, encoding="utf-8")
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data_tmp").symlink_to(generation)
    (folder / "..data_tmp").rename(folder / "..data")


def taken_by(node: str, folder: Path) -> set[str]:
    loaded = load(folder)
    assert [str(problem) for problem in loaded.problems] == []
    assert loaded.records is not None
    return {str(record.key) for record in loaded.records.for_node(node)}


def test_one_config_map_serves_a_cluster_and_each_node_takes_its_own(tmp_path: Path) -> None:
    as_mounted(tmp_path, "..2026_01_01", the("ConfigMap")["data"])
    assert taken_by("storage-1", tmp_path) == taken_by("storage-17", tmp_path) == {"scratch", "scratch/cache"}
    assert taken_by("db-1", tmp_path) == {"db", "db/data"}
    assert taken_by("control-1", tmp_path) == set()


def test_an_edit_is_taken_as_a_whole_by_those_whom_it_is_for(tmp_path: Path) -> None:
    before: dict[str, str] = the("ConfigMap")["data"]
    as_mounted(tmp_path, "..2026_01_01", before)
    as_mounted(tmp_path, "..2026_01_02", {name: text.replace("db-1", "db-2") for name, text in before.items()})
    assert taken_by("db-1", tmp_path) == set()
    assert taken_by("db-2", tmp_path) == {"db", "db/data"}
    assert taken_by("storage-1", tmp_path) == {"scratch", "scratch/cache"}


def test_files_of_pools_lie_where_the_hosts_folder_is_mounted(tmp_path: Path) -> None:
    as_mounted(tmp_path, "..2026_01_01", the("ConfigMap")["data"])
    records = load(tmp_path).records
    assert records is not None
    scratch = records.pools[Key("scratch")].spec
    files = [Path(place.file) for place in (scratch.data, scratch.metadata) if place is not None and place.file]
    assert len(files) == 2
    assert {str(file.parent) for file in files} <= mounts().keys()
