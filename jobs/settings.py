"""Every setting of the service and its workers: the environment variables `PANORAMAS_*`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from jobs.object_store import CertificateFile, StoreUrl
from jobs.setting_values import (
    is_loopback,
    parse_api_keys,
    parse_hosts,
    parse_origins,
    parse_public_url,
)
from jobs.settings_limits import LimitSettings
from jobs.settings_webhooks import WebhookSettings
from recipe.embeddings import parse_embeddings
from recipe.errors import ModelError
from recipe.models import ModelSpec, parse_models


class Settings(LimitSettings, WebhookSettings):
    """Read from the environment when it is constructed, once per process, never at import.

    Raises:
        pydantic.ValidationError: on construction, naming each invalid variable.
    """

    model_config = SettingsConfigDict(env_prefix="PANORAMAS_", frozen=True)

    data_dir: Path = Field(
        Path("data"),
        description="Folder of the embedded server's data and, unless PANORAMAS_STORE_URL is set, the images",
    )
    redis_url: str | None = Field(
        None, description="Redis or Valkey; unset, `panoramas up` starts a server of its own in the data folder"
    )
    store_url: StoreUrl | None = Field(
        None,
        description="Where images are stored: file:///folder, s3://bucket/prefix, gs://, az://; unset, the data folder",
    )
    store_ca: CertificateFile | None = Field(
        None,
        description="File of certificates in PEM that are trusted beside the system's when the image store is called;"
        " unset, AWS_CA_BUNDLE for s3://",
    )
    store_redirect: bool = Field(
        False,
        description="Answer a request for a PNG with a redirect (307) to a signed address of the bucket, so that its"
        " bytes do not pass through the API",
    )
    store_public_endpoint: str | None = Field(
        None, description="Address of the s3:// store in these redirects; unset, the one that the API uses"
    )
    host: str = Field("127.0.0.1", description="Address the API listens on")
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on; 0 picks a free one")
    public_url: str | None = Field(
        None,
        description="Where clients find this service, such as https://example.org/pano; every URL that it gives is then"
        " absolute. Unset, they are paths",
    )
    allowed_hosts: str = Field(
        "",
        description="Values of the Host header that are answered, separated by commas; *.example.org for every name"
        " below one, * for all. Empty: on an address of this machine without API keys, its own names, since there any"
        " web page could reach the service through a name of its own; elsewhere all",
    )
    cors_origins: str = Field(
        "",
        description="Web pages of other sites that may use the API, as https://host, separated by commas; * for all",
    )
    api_keys: str = Field(
        "",
        description="Who may use the API: name:sha256-of-the-key, separated by commas; a name may have several keys."
        " Empty: everybody, as one owner",
    )
    allow_anonymous: bool = Field(
        False,
        description="Listen on other addresses than this machine's own without API keys; set it only where something"
        " else authenticates",
    )
    models: str = Field(
        "demo",
        description="Allow-list of models: built-in names (demo, 1.5, 2.0, 2.1, sdxl), name=folder,"
        " name=owner/repo@revision, separated by commas; or a JSON object from names to {source, revision, and the"
        " model's own defaults}",
    )
    embeddings: str = Field(
        "",
        description="Allow-list of textual inversions for all models: name=file.safetensors, separated by commas; one"
        " model's own are the key `embeddings` of its JSON object",
    )
    default_model: str | None = Field(
        None, description="Model of a request that names none; unset, the first in PANORAMAS_MODELS"
    )
    device: str | None = Field(None, description="cpu, cuda, cuda:1 ...; unset, CUDA if available, else the CPU")
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None,
        description="Precision of the models; unset, bfloat16 or float16 on a GPU and float32 on a CPU. A CPU with"
        " bfloat16 instructions is about twice as fast in bfloat16",
    )
    view_batch_size: int = Field(
        16, ge=1, le=256, description="Maximum number of views in one UNet call; fewer when they do not fit into memory"
    )
    compile: bool | None = Field(
        None,
        description="Compile a model's UNet when it is loaded: takes minutes the first time; the result is kept in the"
        " data folder. Unset, only on a GPU",
    )
    job_memory_gb: float | None = Field(
        None,
        gt=0,
        description="Memory in GiB that a job may use in addition to the models; unset, what is free on the device. A"
        " job that needs more paints fewer views at a time, or fails at once",
    )
    model_memory_gb: float = Field(
        8.0,
        gt=0,
        description="Maximum size of the weights kept on the device, in GiB; beyond it the least recently used model is"
        " evicted, from a GPU into the host's memory",
    )
    worker_faults: int = Field(
        2,
        ge=0,
        description="Attempts in a row that fail by a fault of its device or model process, after which a worker takes"
        " no job before it has painted a small picture of its own; 0: never",
    )
    store_call_timeout: float = Field(30.0, gt=0, description="Seconds that one call of the image store may take")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged")
    log_format: Literal["text", "json"] = Field(
        "text", description="Plain lines for people, or one JSON object per line with the ids of the job and the trace"
    )

    @field_validator("api_keys")
    @classmethod
    def _keys_are_digests(cls, text: str) -> str:
        parse_api_keys(text)
        return text

    @field_validator("public_url")
    @classmethod
    def _public_url_is_absolute(cls, text: str | None) -> str | None:
        return parse_public_url(text) if text else None

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts_are_names(cls, text: str) -> str:
        parse_hosts(text)
        return text

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, text: str) -> str:
        parse_origins(text)
        return text

    @field_validator("models")
    @classmethod
    def _models_are_known(cls, text: str) -> str:
        try:
            parse_models(text)
        except ModelError as error:
            raise ValueError(str(error)) from error
        return text

    @field_validator("embeddings")
    @classmethod
    def _embeddings_are_known(cls, text: str) -> str:
        try:
            parse_embeddings(text)
        except ModelError as error:
            raise ValueError(str(error)) from error
        return text

    @property
    def catalog(self) -> dict[str, ModelSpec]:
        """The allow-listed models by name, the default one first."""
        shared = parse_embeddings(self.embeddings)
        models = {
            name: replace(spec, embeddings={**shared, **spec.embeddings})
            for name, spec in parse_models(self.models).items()
        }
        default = self.default_model or next(iter(models))
        if default not in models:
            raise ValueError(f"PANORAMAS_DEFAULT_MODEL {default!r} is not in PANORAMAS_MODELS")
        return {default: models[default], **models}

    @property
    def owners(self) -> dict[str, str]:
        """The names of owners, by the SHA-256 of their keys."""
        return parse_api_keys(self.api_keys)

    @property
    def hosts(self) -> list[str]:
        """Hosts that are answered for; empty: those of this machine alone."""
        if self.allowed_hosts or (is_loopback(self.host) and not self.api_keys):
            return parse_hosts(self.allowed_hosts)
        return ["*"]

    @property
    def origins(self) -> list[str]:
        """Web pages of other sites that may call."""
        return parse_origins(self.cors_origins)

    def check_exposure(self) -> None:
        """Refuse to serve a network without authentication unless that was configured.

        Raises:
            ValueError: when anybody on the network could use the API.
        """
        if self.api_keys or self.allow_anonymous or is_loopback(self.host):
            return
        raise ValueError(
            f"PANORAMAS_HOST: {self.host} can be reached from other machines, and without PANORAMAS_API_KEYS anybody"
            " there may use the service. Set keys, or PANORAMAS_ALLOW_ANONYMOUS=true where something else authenticates"
        )

    @property
    def compiled_folder(self) -> Path:
        """Where compiled kernels are kept between starts, unless TORCHINDUCTOR_CACHE_DIR is set."""
        return self.data_dir.resolve() / "compiled"

    @property
    def kept_folder(self) -> Path:
        """Where a worker keeps painted pictures while the image store cannot be written."""
        return self.data_dir.resolve() / "kept"

    @property
    def image_url(self) -> str:
        """URL of the image store."""
        return self.store_url or (self.data_dir.resolve() / "images").as_uri()


def table() -> str:
    """Every setting as a Markdown table, the content of `docs/settings.md`."""
    rows = ["| Variable | Default | Meaning |", "|---|---|---|"]
    own = list(Settings.__annotations__)
    ordered = [name for name in own if name in Settings.model_fields]
    for name in [*ordered, *(name for name in Settings.model_fields if name not in own)]:
        field = Settings.model_fields[name]
        default = "" if field.default is None else f"`{field.default}`"
        rows.append(f"| `PANORAMAS_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
