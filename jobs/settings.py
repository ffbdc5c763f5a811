"""Every setting of the service and its workers: the environment variables `PANORAMAS_*`."""

from __future__ import annotations

import ipaddress
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobs.limits import JobLimits
from jobs.object_store import CertificateFile, StoreUrl
from jobs.setting_values import (
    check_secret,
    is_loopback,
    parse_api_keys,
    parse_hosts,
    parse_networks,
    parse_origins,
    parse_public_url,
)
from recipe.embeddings import parse_embeddings
from recipe.errors import ModelError
from recipe.models import ModelSpec, parse_models


class Settings(BaseSettings):
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
    max_connections: int = Field(
        2000,
        ge=1,
        description="Connections of one API process; beyond these the longest idle one makes room, or the new one is"
        " answered with 503. Less where the system allows fewer open files",
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
    rate_limit: int = Field(
        0,
        ge=0,
        description="Requests per minute of each API key (without keys: of all clients together); 0 means no limit",
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
    max_width: int = Field(8192, ge=64, description="Maximum width of a canvas, in pixels")
    max_height: int = Field(2048, ge=64, description="Maximum height of a canvas, in pixels")
    max_steps: int = Field(200, ge=1, le=1000, description="Maximum number of denoising steps")
    max_pixel_steps: int = Field(8192 * 2048 * 50, ge=1, description="Maximum of width x height x num_inference_steps")
    max_body_bytes: int = Field(64 * 1024, ge=1024, description="Maximum size of a request body, in bytes")
    max_upload_bytes: int = Field(64 << 20, ge=1024, description="Maximum size of an uploaded batch or PNG, in bytes")
    max_batch_items: int = Field(10_000, ge=1, description="Maximum number of items in a batch")
    max_queued: int = Field(
        50_000, ge=1, description="Maximum number of waiting jobs; beyond it a submission is answered with 429"
    )
    max_queued_per_key: int | None = Field(
        None,
        ge=1,
        description="Maximum number of waiting jobs of one API key; unset, only PANORAMAS_MAX_QUEUED applies",
    )
    max_wait: int = Field(60, ge=0, description="Maximum seconds for which `Prefer: wait` delays a response")
    result_ttl: int = Field(86_400, ge=1, description="Seconds a finished job and its image are kept")
    max_attempts: int = Field(
        3,
        ge=1,
        description="How often a job may fail by its own fault, and as often by that of workers, before it fails for"
        " good. By then it has failed on two workers, where there are two",
    )
    worker_faults: int = Field(
        2,
        ge=0,
        description="Attempts in a row that fail by a fault of its device or model process, after which a worker takes"
        " no job before it has painted a small picture of its own; 0: never",
    )
    lease_seconds: float = Field(10.0, ge=1, description="Seconds without a renewal after which a worker loses its job")
    model_grace: float = Field(
        10.0,
        ge=0,
        description="Seconds after which a job fails that no living worker can paint, because none has its model or"
        " none could load it",
    )
    step_timeout: float = Field(
        300.0, gt=0, description="Seconds without a step after which a model process is replaced"
    )
    load_timeout: float = Field(
        1800.0, gt=0, description="Seconds after which a model process that has not loaded its model is replaced"
    )
    job_timeout: float = Field(3600.0, gt=0, description="Seconds after which a running job fails")
    store_timeout: float = Field(
        60.0,
        ge=0,
        description="Seconds for which storing a picture is retried; then it is kept on the worker's disk, and the job"
        " is put back",
    )
    store_call_timeout: float = Field(30.0, gt=0, description="Seconds that one call of the image store may take")
    min_free_mb: int = Field(
        200,
        ge=0,
        description="Free space in MiB on the disk of a local image store, below which a submission is answered with"
        " 507",
    )
    drain_seconds: float = Field(
        60.0, ge=0, description="Grace period after SIGTERM: a job that is not done by then is put back into the queue"
    )
    webhook_secret: str | None = Field(
        None,
        description="Signs webhook calls: whsec_ and base64 of 24 to 64 bytes. While secrets are rotated, the old one"
        " may follow after a space; both then sign. Unset, `panoramas up` creates one in the data folder, and elsewhere"
        " no webhook_url is accepted",
    )
    webhook_allow_http: bool = Field(False, description="Also call http addresses, not only https ones")
    webhook_allow_networks: str = Field(
        "",
        description="Private networks in which webhooks may be called, such as 10.1.0.0/16,fd00::/8; all other"
        " addresses must be public",
    )
    webhook_timeout: float = Field(10.0, gt=0, le=60, description="Seconds within which a webhook must answer")
    webhook_attempts: int = Field(
        10, ge=1, le=30, description="How often a webhook is called before it counts as failed"
    )
    webhook_first_retry: float = Field(
        5.0, gt=0, description="Seconds until a failed call is made again; each further pause is four times as long"
    )
    webhook_longest_retry: float = Field(
        28_800.0,
        gt=0,
        description="Longest pause between two calls, in seconds; with the defaults all calls together take a day",
    )
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

    @field_validator("webhook_secret")
    @classmethod
    def _secret_is_long(cls, text: str | None) -> str | None:
        for secret in (text or "").split():
            check_secret(secret)
        return text

    @field_validator("webhook_allow_networks")
    @classmethod
    def _networks_are_known(cls, text: str) -> str:
        parse_networks(text)
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

    @property
    def webhook_secrets(self) -> list[str]:
        """The current secret first; empty when webhooks are disabled."""
        return (self.webhook_secret or "").split()

    @property
    def webhook_networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """Private networks in which webhooks may be called."""
        return parse_networks(self.webhook_allow_networks)

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

    @property
    def job_limits(self) -> JobLimits:
        """The limits of leases, attempts and retention."""
        return JobLimits(
            lease_seconds=self.lease_seconds,
            max_attempts=self.max_attempts,
            model_grace_seconds=self.model_grace,
            retention_seconds=self.result_ttl,
        )


def table() -> str:
    """Every setting as a Markdown table, the content of `docs/settings.md`."""
    rows = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        rows.append(f"| `PANORAMAS_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table())
