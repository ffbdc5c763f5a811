"""The settings that are limits: of requests, of jobs, of time."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings

from jobs.limits import JobLimits


class LimitSettings(BaseSettings):
    """A part of `jobs.settings.Settings`."""

    max_connections: int = Field(
        2000,
        ge=1,
        description="Connections of one API process; beyond these the longest idle one makes room, or the new one is"
        " answered with 503. Less where the system allows fewer open files",
    )
    rate_limit: int = Field(
        0,
        ge=0,
        description="Requests per minute of each API key (without keys: of all clients together); 0 means no limit",
    )
    max_width: int = Field(8192, ge=64, description="Maximum width of a canvas, in pixels")
    max_height: int = Field(2048, ge=64, description="Maximum height of a canvas, in pixels")
    max_steps: int = Field(200, ge=1, le=1000, description="Maximum number of denoising steps")
    max_pixel_steps: int = Field(8192 * 2048 * 50, ge=1, description="Maximum of width x height x num_inference_steps")
    max_samples: int = Field(
        1_000_000,
        ge=1,
        description="Maximum number of samples that the network predicts for a panorama: its views, each once for every"
        " region that it touches, times steps, twice with guidance",
    )
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
    max_kept_mb_per_key: int = Field(
        128,
        ge=1,
        description="Memory in MiB of the records of one API key's jobs, about 2 kB each and their metadata, until they"
        " expire; beyond it a submission is answered with 507",
    )
    max_wait: int = Field(60, ge=0, description="Maximum seconds for which `Prefer: wait` delays a response")
    result_ttl: int = Field(86_400, ge=1, description="Seconds a finished job and its image are kept")
    max_attempts: int = Field(
        3,
        ge=1,
        description="How often a job may fail by its own fault, and as often by that of workers, before it fails for"
        " good. By then it has failed on two workers, where there are two",
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
    min_free_mb: int = Field(
        200,
        ge=0,
        description="Free space in MiB on the disk of a local image store, below which a submission is answered with"
        " 507",
    )
    drain_seconds: float = Field(
        60.0, ge=0, description="Grace period after SIGTERM: a job that is not done by then is put back into the queue"
    )

    @property
    def job_limits(self) -> JobLimits:
        """The limits of leases, attempts and retention."""
        return JobLimits(
            lease_seconds=self.lease_seconds,
            max_attempts=self.max_attempts,
            model_grace_seconds=self.model_grace,
            retention_seconds=self.result_ttl,
        )
