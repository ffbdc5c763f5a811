"""The settings of webhooks."""

from __future__ import annotations

import ipaddress

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from jobs.setting_values import check_secret, parse_networks


class WebhookSettings(BaseSettings):
    """A part of `jobs.settings.Settings`."""

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

    @property
    def webhook_secrets(self) -> list[str]:
        """The current secret first; empty when webhooks are disabled."""
        return (self.webhook_secret or "").split()

    @property
    def webhook_networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """Private networks in which webhooks may be called."""
        return parse_networks(self.webhook_allow_networks)
