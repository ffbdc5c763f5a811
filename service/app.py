"""The application, wired from its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from redis.asyncio import Redis

from jobs.batches import Batches
from jobs.board import JobBoard
from jobs.connection import connected
from jobs.events import EventLog
from jobs.listing import JobListing
from jobs.metrics import read_figures
from jobs.outbox import Outbox
from jobs.quota import Quota
from jobs.settings import Settings
from jobs.store import ImageStore
from service import page, problems
from service.access import Access
from service.body_limit import BodyLimit
from service.dependencies import Services
from service.description import DESCRIPTION, describe
from service.hub import Hub
from service.metrics import MeasuredRequests, RequestMetrics
from service.pictures import Pictures
from service.routes import router
from service.routes.webhooks import calls
from service.tracing import TracedRequests
from service.webhooks.signing import Signer
from service.webhooks.targets import TargetRules


def create_app(settings: Settings, redis_url: str) -> FastAPI:
    """The API. Redis need not be there yet: requests that need it are answered 503 until it is."""

    requests = RequestMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        redis = connected(redis_url)
        services = _services(settings, redis, requests)
        app.state.services = services
        services.hub.start()
        yield
        await services.hub.stop()
        await redis.aclose()

    app = FastAPI(
        title="MultiDiffusion panoramas",
        version="0.1.0",
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,  # the page's own, which loads nothing from another host
        redoc_url=None,
        lifespan=lifespan,
    )
    app.include_router(router)
    app.include_router(page.router)
    app.webhooks.include_router(calls)
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes, large=settings.max_upload_bytes)
    app.add_middleware(Access, keys=settings.owners)
    app.add_middleware(MeasuredRequests, metrics=requests)
    app.add_middleware(TracedRequests)
    problems.install(app)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    return app


def _services(settings: Settings, redis: Redis, requests: RequestMetrics) -> Services:
    """What the handlers use, all on one pool of connections."""
    board = JobBoard(
        redis,
        retention_seconds=settings.result_ttl,
        max_queued=settings.max_queued,
        max_queued_per_owner=settings.max_queued_per_key,
    )
    hub = Hub(EventLog(redis), board)
    store = ImageStore(settings.image_url, min_free_bytes=settings.min_free_mb << 20)
    return Services(
        settings=settings,
        catalog=settings.catalog,
        board=board,
        store=store,
        pictures=Pictures(store),
        listing=JobListing(redis),
        hub=hub,
        quota=Quota(redis, settings.rate_limit),
        batches=Batches(redis, board),
        outbox=Outbox(redis),
        targets=TargetRules(settings.webhook_allow_http, settings.webhook_networks),
        signer=Signer(settings.webhook_secrets) if settings.webhook_secrets else None,
        requests=requests,
        figures=lambda: read_figures(redis, {"", *settings.owners.values()}),
    )
