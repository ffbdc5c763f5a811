"""The weights of a model where they lie: found, read and identified. safetensors only: nothing is ever executed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import ModelMixin

from recipe import hub
from recipe.configs import ModelConfigs
from recipe.errors import ModelError
from recipe.models import ModelSpec
from recipe.source import configs_of, names_in
from recipe.weights import HALF, Choice, choose

log = logging.getLogger(__name__)


class ModelFiles(Protocol):
    """A model's weights, what its configuration says, and what identifies the weights."""

    @property
    def configs(self) -> ModelConfigs: ...

    @property
    def revision(self) -> str: ...

    def load(self, component: str, kind: Any, dtype: torch.dtype) -> Any:
        """A component of a class of diffusers or transformers, in `dtype`, on the CPU.

        Raises:
            ModelError: when a weight of it is missing.
            OSError, ValueError, RuntimeError: when its files are missing or hold something else.
        """

    def load_tokenizer(self, component: str, kind: Any, model: Any) -> Any:
        """A tokenizer that belongs to `model`.

        Raises:
            ModelError: when it lacks its vocabulary or its length.
        """


@dataclass(frozen=True, slots=True)
class FolderFiles:
    """A model in diffusers' component layout. Of the components in `halves` there are fp16 weights alone."""

    folder: Path
    configs: ModelConfigs
    revision: str
    halves: frozenset[str] = frozenset()

    def load(self, component: str, kind: Any, dtype: torch.dtype) -> Any:
        """See `ModelFiles`."""
        named = {"torch_dtype" if issubclass(kind, ModelMixin) else "dtype": dtype}
        module, report = kind.from_pretrained(
            self.folder,
            subfolder=component,
            use_safetensors=True,
            variant=HALF if component in self.halves else None,
            output_loading_info=True,
            **named,
        )
        check_keys(f"{component} of {self.folder}", report["missing_keys"], report["unexpected_keys"])
        return module

    def load_tokenizer(self, component: str, kind: Any, model: Any) -> Any:
        """See `ModelFiles`."""
        tokenizer = kind.from_pretrained(self.folder, subfolder=component)
        size, length = model.config.vocab_size, model.config.max_position_embeddings
        if len(tokenizer) != size:
            raise ModelError(
                f"{component} of {self.folder} knows {len(tokenizer)} tokens and the text model {size}: its vocabulary"
                " is missing or another model's; copy vocab.json and merges.txt, or tokenizer.json, from the original"
            )
        if tokenizer.model_max_length > length:
            raise ModelError(
                f"{component}/tokenizer_config.json of {self.folder} has no model_max_length that the text model can"
                f" read; set it to {length}"
            )
        return tokenizer


def check_keys(origin: str, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """Names of weights that a component lacks, and of those that it has no place for; the latter are logged.

    Raises:
        ModelError: when one is missing.
    """
    if lacking := sorted(missing):
        raise ModelError(
            f"{origin} lacks {len(lacking)} weights, such as {lacking[0]}: the files are incomplete; download or"
            " convert the model again"
        )
    if unplaced := sorted(unexpected):
        log.warning("%s: %d weights have no place, such as %s", origin, len(unplaced), unplaced[0])


def align(module: torch.nn.Module) -> None:
    """Move weights in the CPU's memory to addresses that are multiples of 64, as torch's own are.

    Weights read from a file lie where the file has them, and the CPU's libraries sum in another order at other
    addresses: without this, one model in two files would paint two pictures that differ in the last bit.
    """
    for parameter in module.parameters():
        if parameter.device.type == "cpu" and parameter.data_ptr() % 64:
            parameter.data = parameter.data.clone()


def find_files(spec: ModelSpec) -> ModelFiles:
    """On this disk, or from the hub: from its local cache where all files are there, else over the network.

    Raises:
        ModelError
    """
    path = spec.path
    if path is None:
        return _from_hub(spec)
    configs = configs_of(str(path))
    if path.is_file():
        from engine.single_file import SingleFile

        return SingleFile(path, configs, digest_of([path]))
    choice = choose(names_in(path), configs)
    _check_whole(choice, str(path))
    # As some users give it: a folder of the hub's cache, whose name is the commit.
    snapshot = path.name if path.parent.name == "snapshots" else None
    revision = _named(snapshot, choice) if snapshot else digest_of([path / name for name in choice.files], path)
    return FolderFiles(path, configs, revision, choice.halves)


def _from_hub(spec: ModelSpec) -> FolderFiles:
    folder = hub.config_folder(spec.source, spec.revision)
    configs, commit = configs_of(spec.source, spec.revision), folder.name
    choice = choose(names_in(folder), configs)
    if choice.missing or choice.halves:
        try:
            choice = choose(hub.list_files(spec.source, commit), configs)
            hub.download(spec.source, commit, choice.files)
        except hub.HubUnreachable:
            if choice.missing:
                raise
            log.warning("the hub cannot be reached: %s is read from the cached fp16 files", spec.source)
    _check_whole(choice, spec.source)
    return FolderFiles(folder, configs, _named(commit, choice), choice.halves)


def _check_whole(choice: Choice, origin: str) -> None:
    if choice.missing:
        raise ModelError(f"{origin} has no weights of its {', '.join(choice.missing)} in .safetensors files")


def _named(commit: str, choice: Choice) -> str:
    """The hub's commit; a repository may hold both precisions, which paint differently."""
    return f"{commit}+{HALF}" if choice.halves else commit


def digest_of(paths: Iterable[Path], base: Path | None = None) -> str:
    """What identifies the contents of files, and their names below `base` where there are several."""
    digest = hashlib.sha256()
    for path in paths:
        if base:
            digest.update(path.relative_to(base).as_posix().encode())
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256")
        if not base:
            return f"sha256:{content.hexdigest()[:16]}"
        digest.update(content.digest())
    return f"sha256:{digest.hexdigest()[:16]}"
