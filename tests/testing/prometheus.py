"""A real Prometheus, Debian's own, that scrapes daemons of tests and is asked over its API."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.testing.environment import eventually

RULES = Path(__file__).parents[2] / "grafana" / "alerts" / "dm-reconciler.rules.yml"
JOB = "dm-reconciler"


class Prometheus:
    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, **words: Any) -> Any:
        """The data of an answer, which must be without errors and warnings. A list is a parameter given several times."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(words, doseq=True)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                said = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
                raise  # it is still starting
            raise AssertionError(f"{words or path}: {error.read().decode()}") from None
        assert said["status"] == "success"
        assert not said.get("warnings"), f"{words or path}: {said['warnings']}"
        assert not said.get("infos"), f"{words or path}: {said['infos']}"
        return said["data"]

    def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of the answer."""
        result = self.get("query", query=query)["result"]
        return [(one["metric"], float(one["value"][1])) for one in result]

    def value(self, query: str) -> float | None:
        """Of the one series of the answer; None while there is none."""
        found = self.ask(query)
        assert len(found) <= 1, f"{query} has several: {found}"
        return found[0][1] if found else None

    def until(self, query: str, wanted: float = 1.0) -> None:
        eventually(lambda: self.value(query) == wanted, f"{query} is {wanted}")


@contextmanager
def scraping(ports: Sequence[int], folder: Path, every: str = "1s", rules: Path = RULES) -> Iterator[Prometheus]:
    """A Prometheus with these rules that scrapes these ports that often, until the block ends."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("PROMETHEUS IS NOT INSTALLED: it did not scrape the daemon")
    own = free_port()
    targets = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
    config = {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": JOB, "static_configs": targets}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    places = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    command = [program, *places, f"--web.listen-address=127.0.0.1:{own}"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            yield Prometheus(own)
        finally:
            process.terminate()
            process.wait(20)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
