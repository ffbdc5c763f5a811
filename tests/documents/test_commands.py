"""Every `panoramas` and `curl` command of the documents is one, and those that talk to a service work as typed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image
from typer.main import get_command

from panoramas.cli import app
from testkit.processes import ROOT, RedisServer, Stack, eventually, free_port, running_stack

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "clients/python/README.md",
    ROOT / "SECURITY.md",
    *(ROOT / "docs").rglob("*.md"),
]
ADDRESS = "http://127.0.0.1:8000"
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]


def blocks(path: Path) -> list[str]:
    """The shell commands of a document: fenced blocks marked `sh`, and indented ones."""
    text = path.read_text()
    fenced = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    unfenced = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return fenced + re.findall(r"(?:^    .*\n)+", unfenced, re.MULTILINE)


def block_with(name: str, part: str) -> str:
    (found,) = [block for block in blocks(ROOT / name) if part in block]
    return found


def shell_words(text: str) -> Iterator[list[str]]:
    """The words of each logical line of a block, with operators such as `|` as words of their own."""
    pending = ""
    for line in text.replace("\\\n", " ").splitlines():
        pending += line + "\n"
        lexer = shlex.shlex(pending.strip(), posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, "#"
        with suppress(ValueError):  # a quotation that goes on in the next line
            yield list(lexer)
            pending = ""
    assert not pending, f"not closed: {pending}"


def panoramas_commands(text: str) -> list[list[str]]:
    """The arguments of each `panoramas` command of a block, as a shell splits them."""
    found = []
    for line in shell_words(text):
        words: list[str] = []
        for word in [*line, ";"]:
            if set(word) <= set("();<>|&"):
                while words and re.fullmatch(r"\w+=.*", words[0]):
                    words.pop(0)
                if words[:1] == ["panoramas"]:
                    found.append(words[1:])
                words = []
            else:
                words.append(word)
    return found


def all_commands(path: Path) -> list[tuple[list[str], bool]]:
    """Those of blocks, which are complete, and those inside sentences, which may leave out what they are not about."""
    complete = [(command, True) for block in blocks(path) for command in panoramas_commands(block)]
    spans = re.findall(r"`(panoramas [^`\n]+)`", path.read_text())
    return complete + [(shlex.split(span)[1:], False) for span in spans]


def test_there_are_commands_to_check() -> None:
    found = [command for path in DOCUMENTS for command, complete in all_commands(path) if complete]
    assert len(found) > 10
    assert {command[0] for command in found} >= {"generate", "submit", "wait", "list", "delete", "batch", "api", "up"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_and_flag_exists(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("requests.jsonl", "prompts.txt", "panorama.png"):
        (tmp_path / name).touch()
    for arguments, complete in all_commands(path):
        if arguments == ["--version"]:
            continue
        name, *rest = arguments
        assert name in COMMANDS, f"panoramas {name}"
        command = COMMANDS[name]
        if complete:
            command.make_context(name, rest)  # raises a usage error
        else:
            known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
            assert {word for word in rest if word.startswith("-") and word != "-"} <= known | {"--help"}, rest


def test_every_document_with_curl_commands_has_a_test_that_runs_them() -> None:
    found = {path.name for path in DOCUMENTS for block in blocks(path) if re.search(r"\bcurl\b", block)}
    here, examples = {"README.md", "webhooks.md"}, {"api.md", "regions.md"}  # examples: of test_examples.py
    assert found == here | examples


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Stack]:
    """As `make serve` runs it, but with a model whose pictures take a moment."""
    models = json.dumps({"tiny": {"source": str(tiny_model), "num_inference_steps": 2, "view_stride": 16}})
    folder = tmp_path_factory.mktemp("service")
    with running_stack(folder, models, PANORAMAS_WEBHOOK_SECRET="whsec_" + "A" * 43 + "=") as stack:
        yield stack


def typed(block: str, folder: Path, stack: Stack) -> str:
    """What a block prints in an empty folder; each of its commands must succeed."""
    if missing := [name for name in ("bash", "curl", "jq") if not shutil.which(name)]:
        pytest.skip(f"{', '.join(missing)} not installed")
    environment = {**os.environ, "PANORAMAS_URL": stack.url, "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", block.replace(ADDRESS, stack.url)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def size(path: Path) -> tuple[str | None, tuple[int, int]]:
    with Image.open(path) as picture:
        return picture.format, picture.size


@pytest.mark.slow
def test_the_commands_of_the_readme_work_as_typed(service: Stack, tmp_path: Path) -> None:
    typed(block_with("README.md", "/image"), tmp_path, service)
    assert [path.name for path in tmp_path.iterdir()] == ["panorama.png"]
    assert size(tmp_path / "panorama.png") == ("PNG", (2048, 512))


@pytest.mark.slow
def test_the_commands_of_the_clients_pages_work_as_typed(service: Stack, tmp_path: Path) -> None:
    (tmp_path / "requests.jsonl").write_text('{"prompt": "hills", "width": 128, "height": 128}\n')
    typed(block_with("clients/python/README.md", "panoramas batch"), tmp_path, service)
    assert size(tmp_path / "panorama.png")[0] == "PNG"
    assert (tmp_path / "pictures" / "00001.png").exists()
    for block in blocks(ROOT / "docs" / "client.md"):
        typed(block, tmp_path, service)
    assert [size(tmp_path / f"mountains.{name}")[0] for name in ("webp", "jpg")] == ["WEBP", "JPEG"]


@pytest.mark.slow
def test_the_submits_of_the_webhooks_page_work_as_typed(service: Stack, tmp_path: Path) -> None:
    told = typed(block_with("docs/webhooks.md", "curl"), tmp_path, service)
    assert told.count('"state"') == 2


@pytest.mark.slow
def test_the_processes_of_the_webhooks_page_start_as_typed(tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the secret")
    block = block_with("docs/webhooks.md", "panoramas webhooks &")
    redis, port = RedisServer(tmp_path / "redis"), free_port()
    redis.start()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PANORAMAS_PORT": str(port)}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"PANORAMAS_DATA_DIR": str(tmp_path / "data")}
    script = f"{block.replace('redis://127.0.0.1:6379/0', redis.url)}\nwait"
    with subprocess.Popen(["bash", "-c", script], cwd=tmp_path, env=environment, start_new_session=True) as process:
        try:
            eventually(lambda: _is_live(port), 30, "the API answers")
            secret = httpx.get(f"http://127.0.0.1:{port}/webhooks/secret").json()["secret"]
            assert secret.startswith("whsec_")
            running = [child.cmdline()[-1] for child in psutil.Process(process.pid).children()]
            assert sorted(running) == ["api", "webhooks"]
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            redis.kill()


def _is_live(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/livez").is_success
    except httpx.TransportError:
        return False
