"""Builds the application from its settings."""

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
from jobs.reconciling import Reconciler
from jobs.settings import Settings
from jobs.signed_urls import SignedUrls
from jobs.store import ImageStore
from jobs.store_identity import StoreAnnouncer
from recipe.version import server_version
from service import problems, web_page
from service.access import AccessMiddleware
from service.body_limit import BodyLimitMiddleware
from service.cached import Cached
from service.dependencies import Services
from service.event_hub import EventHub
from service.head import HeadMiddleware
from service.image_formats import ImageConverter
from service.links import set_base
from service.metrics import MetricsMiddleware, RequestMetrics
from service.model_catalog import ModelCatalog
from service.openapi_document import DESCRIPTION, openapi_document
from service.origins import OriginMiddleware, cross_origin
from service.readiness import read_health
from service.routes import router
from service.slices import Slices
from service.tracing import TracingMiddleware
from service.webhooks.signing import Signer
from service.webhooks.targets import TargetRules

# How old the answer of a readiness probe may be: it asks Redis, and writes to the store.
_READINESS_SECONDS = 2.0


def create_app(settings: Settings, redis_url: str) -> FastAPI:
    """The API. It starts without Redis; until Redis answers, requests that need it get a 503."""

    requests = RequestMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        redis = connected(redis_url)
        services = _services(settings, redis, requests)
        app.state.services = services
        reconciler = Reconciler(redis, settings.job_limits)
        reconciler.start()
        services.event_hub.start()
        services.catalog.start()
        services.announcer.start()
        yield
        await services.announcer.stop()
        await reconciler.stop()
        await services.catalog.stop()
        await services.event_hub.stop()
        await redis.aclose()

    set_base(settings.public_url)
    app = FastAPI(
        title="MultiDiffusion panoramas",
        version=server_version(),
        description=DESCRIPTION,
        contact={"name": "The maintainers of MultiDiffusion panoramas"},
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,  # service.web_page serves documentation that loads nothing from another host
        redoc_url=None,
        openapi_url=None,  # service.web_page serves it, without writing it anew for each request
        redirect_slashes=False,  # it would send clients to whatever Host says
        lifespan=lifespan,
    )
    app.include_router(router)
    app.include_router(web_page.router)
    app.add_middleware(HeadMiddleware)
    app.add_middleware(BodyLimitMiddleware, limit=settings.max_body_bytes, large=settings.max_upload_bytes)
    app.add_middleware(AccessMiddleware, keys=settings.owners)
    app.add_middleware(MetricsMiddleware, metrics=requests)
    app.add_middleware(TracingMiddleware)
    if settings.origins:
        app.add_middleware(cross_origin, origins=settings.origins)
    app.add_middleware(OriginMiddleware, hosts=settings.hosts, origins=settings.origins, public_url=settings.public_url)
    problems.install(app)
    app.openapi = lambda: openapi_document(app, settings.public_url)  # type: ignore[method-assign]
    return app


def _services(settings: Settings, redis: Redis, requests: RequestMetrics) -> Services:
    """What the handlers use. All of it shares one pool of Redis connections."""
    board = JobBoard(
        redis,
        retention_seconds=settings.result_ttl,
        max_queued=settings.max_queued,
        max_queued_per_owner=settings.max_queued_per_key,
        max_kept_bytes=settings.max_kept_mb_per_key << 20,
    )
    event_hub = EventHub(EventLog(redis), board)
    store, catalog = ImageStore.of(settings), ModelCatalog(settings.catalog)
    announcer = StoreAnnouncer(redis, store)
    return Services(
        settings=settings,
        catalog=catalog,
        board=board,
        store=store,
        announcer=announcer,
        signed_urls=SignedUrls.of(settings),
        images=ImageConverter(store),
        listing=JobListing(redis),
        event_hub=event_hub,
        quota=Quota(redis, settings.rate_limit),
        batches=Batches(redis, board),
        outbox=Outbox(redis),
        targets=TargetRules(settings.webhook_allow_http, settings.webhook_networks),
        signer=Signer(settings.webhook_secrets) if settings.webhook_secrets else None,
        slices=Slices(),
        requests=requests,
        readiness=Cached(lambda: read_health(board, store, announcer, catalog), _READINESS_SECONDS),
        figures=lambda: read_figures(redis, {"", *settings.owners.values()}),
    )
