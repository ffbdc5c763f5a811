"""Where a model's configuration comes from: its folder, one `.safetensors` file, or a repository of the hub."""

from __future__ import annotations

from pathlib import Path

from recipe.configs import ModelConfigs, read_configs
from recipe.errors import ModelError
from recipe.hub import HubUnreachable, config_folder
from recipe.packaged import packaged_repository
from recipe.single_file import read_single_file
from recipe.weights import PICKLES, choose


def configs_of(source: str, revision: str | None = None) -> ModelConfigs:
    """Of a folder, a file or a hub repository, without reading a weight.

    Raises:
        ModelError: when they cannot be had or read, or the weights are pickles.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        configs = read_configs(path)
        choose(names_in(path), configs)
        return configs
    if path.is_file():
        return _of_file(path)
    try:
        folder = config_folder(source, revision)
    except HubUnreachable:
        known = packaged_repository(source, revision)
        if known is None:
            raise
        return known
    configs = read_configs(folder)
    return ModelConfigs(source, configs.index, configs.components)


def names_in(folder: Path) -> list[str]:
    """Names of the files of a folder and of its components' folders, with forward slashes."""
    return [
        path.relative_to(folder).as_posix() for path in (*folder.glob("*"), *folder.glob("*/*")) if not path.is_dir()
    ]


def _of_file(path: Path) -> ModelConfigs:
    if path.suffix.lower() in PICKLES:
        raise ModelError(
            f"{path} is a pickle, which could run code: convert it with `python -m engine.convert {path}`, and give"
            " the .safetensors file that this writes"
        )
    if path.suffix.lower() != ".safetensors":
        raise ModelError(f"{path} is no model: give a .safetensors file, or a folder in diffusers' layout")
    return read_single_file(path)
