"""Where a model's configuration files come from: its folder, or a hub repository, of which only they are fetched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipe.configs import CONFIG_FILES, INDEX, ModelConfigs, read_configs, read_json
from recipe.errors import ModelError


def configs_of(source: str, revision: str | None = None) -> ModelConfigs:
    """Of a folder or a hub repository.

    Raises:
        ModelError: when they cannot be had or read.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return read_configs(path)
    return _from_hub(source, revision)


def _from_hub(repository: str, revision: str | None) -> ModelConfigs:
    index = _fetched(repository, revision, INDEX)
    if index is None:
        raise ModelError(f"{repository} has no {INDEX}: it is no model in diffusers' component layout")
    components: dict[str, Mapping[str, Any]] = {}
    wanted = read_json(index)
    for name, file in CONFIG_FILES.items():
        if wanted.get(name) and (path := _fetched(repository, revision, file)):
            components[name] = read_json(path)
    return ModelConfigs(repository, wanted, components)


def _fetched(repository: str, revision: str | None, file: str) -> Path | None:
    """One small file, from the local cache where it is there; None where the repository has no such file."""
    from huggingface_hub import hf_hub_download  # half a second to import, and only hub models need it
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, file, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(hf_hub_download(repository, file, revision=revision, etag_timeout=5))
    except LocalEntryNotFoundError as error:
        raise ModelError(f"the hub repository {repository} cannot be reached, and is not cached: {error}") from error
    except EntryNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be had from the hub repository {repository}: {error}") from error
