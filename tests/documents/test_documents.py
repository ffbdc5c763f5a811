"""What the documents say is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.settings import Settings, table
from panoramas._version import __version__
from panoramas.client import Client
from testkit.processes import ROOT

CHANGELOG = (ROOT / "CHANGELOG.md").read_text()

DOCUMENTS = [
    path for path in sorted(ROOT.rglob("*.md")) if not {".venv", "data", "node_modules", "runs"} & set(path.parts)
]


def test_the_table_of_settings_is_the_settings() -> None:
    assert (ROOT / "docs" / "settings.md").read_text().endswith(table()), "run `python -m jobs.settings`"


def test_the_compose_file_sets_only_settings_there_are() -> None:
    for name in ("docker-compose.yml", "Dockerfile"):
        used = set(re.findall(r"PANORAMAS_([A-Z_]+)", (ROOT / name).read_text()))
        assert used <= {field.upper() for field in Settings.model_fields}, name


COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


@pytest.mark.parametrize(
    ("profiles", "started"),
    [
        ((), set()),
        (("cpu",), {"worker-cpu"}),
        (("gpu",), {"worker-gpu-0"}),
        (("two-gpus",), {"worker-gpu-0", "worker-gpu-1"}),
        (("four-gpus", "webhooks"), {"worker-gpu-0", "worker-gpu-1", "worker-gpu-2", "worker-gpu-3", "webhooks"}),
        (("webhooks",), {"webhooks"}),
    ],
)
def test_a_profile_starts_what_its_name_says(profiles: tuple[str, ...], started: set[str]) -> None:
    services = COMPOSE["services"]
    chosen = {name for name, it in services.items() if not it.get("profiles") or {*profiles} & {*it["profiles"]}}
    assert chosen == {"redis", "api"} | started
    devices = [
        device["device_ids"]
        for name in chosen
        for device in services[name].get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
    ]
    assert len(devices) == len({tuple(ids) for ids in devices}), "each worker has a GPU of its own"


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_container_is_confined_watched_and_told_every_setting(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["init"] is service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["logging"]["options"]["max-size"]
    assert service["healthcheck"]["test"]
    assert service["mem_limit"]
    if name == "redis":
        assert service["image"].startswith("docker.io/")
        assert "--maxmemory" in service["command"]
    else:
        own = {"redis_url", "data_dir", "host", "port"}  # of the images
        passed = {f"PANORAMAS_{field.upper()}" for field in Settings.model_fields if field not in own}
        of_s3 = {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"}
        assert passed | of_s3 <= set(service["environment"])


def test_every_fault_of_the_matrix_has_the_test_it_names() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "reliability.md").read_text()))
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 30
    assert {name for name in named if f"def {name}(" not in sources} == set()


def test_the_version_is_the_same_everywhere() -> None:
    openapi = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", CHANGELOG, re.MULTILINE)
    assert openapi["info"]["version"] == __version__ == released[0]
    assert released == sorted(released, key=lambda text: [int(part) for part in text.split(".")], reverse=True)
    with Client(api_key="") as client:
        assert client._connection.headers["User-Agent"] == f"panoramas-python/{__version__}"


def test_the_changelog_has_a_place_for_the_next_change() -> None:
    assert CHANGELOG.index("## [Unreleased]") < CHANGELOG.index(f"## [{__version__}]")


def test_pre_commit_runs_the_commands_of_make_check() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    entries = " ".join(hook["entry"] for hook in hooks)
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    for tool, verb in re.findall(r"\$\(BIN\)/(\S+)(?: (check|format))?", recipe[1]):
        if tool != "python":
            assert " ".join(filter(None, (tool, verb))) in entries
    assert "service.openapi" in entries


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_exist(path: Path) -> None:
    if path.name == "CHANGELOG.md":  # tells of files as they were
        return
    rooms = "benchmarks|clients|deploy|docs|engine|jobs|panoramas|recipe|service|testkit|tests|training|worker"
    for name in re.findall(rf"`((?:{rooms})/[\w./-]*)`", path.read_text()):
        assert (ROOT / name).exists() or "NAME" in name or name == "training/runs/", name


def test_the_files_that_the_architecture_sends_a_reader_to_exist() -> None:
    rows = re.findall(r"^\| `(\w+/)` \| (.*) \|$", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    assert len(rows) >= 7
    for package, text in rows:
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", text):
            assert (ROOT / package / name).exists(), f"{package}{name}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_targets_of_make_that_are_named_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^    |`)make ([a-z-]+)", path.read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", path.read_text()):
        assert (path.parent / target).exists(), target
