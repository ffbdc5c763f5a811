"""`GET /metrics` for Prometheus.

Figures of the whole service are read from Redis at each scrape, so every API process reports the same. Only the
figures about requests are the process's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobs.metrics import Figures
from jobs.outbox import OUTCOMES

_HISTOGRAMS = {
    "step": ("panoramas_step_seconds", "Average denoising step of a painting", None),
    "phase": ("panoramas_phase_seconds", "A phase of a painting", "phase"),
    "load": ("panoramas_model_load_seconds", "Loading a model", "model"),
    "webhook": ("panoramas_webhook_seconds", "One call of a webhook", None),
}


class RequestMetrics:
    """Figures about the requests to this process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(namespace="panoramas_api", registry=self.registry)
        self.seconds = Histogram(
            "panoramas_http_request_seconds",
            "Time to the response's first byte, of this API process",
            ("method", "route", "status"),
            buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0),
            registry=self.registry,
        )
        self.event_streams = Gauge(
            "panoramas_event_streams", "Clients that follow a job on this API process", registry=self.registry
        )


class MetricsMiddleware:
    """Measures the time to each response's first byte, by route."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app = app
        self._seconds = metrics.seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()

        async def send_and_measure(message: Message) -> None:
            if message["type"] == "http.response.start":
                # By the route's template: paths hold ids, and each would become a series of its own.
                route = getattr(scope.get("route"), "path", "") or "other"
                method = scope["method"] if route != "other" else "other"
                self._seconds.labels(method, route, message["status"]).observe(time.perf_counter() - start)
            await send(message)

        await self._app(scope, receive, send_and_measure)


class _Collector(Collector):
    def __init__(self, figures: Figures | None, own: RequestMetrics) -> None:
        self._figures = figures
        self._own = own

    def collect(self) -> Iterator[Metric]:
        yield from self._own.registry.collect()
        figures = self._figures
        yield GaugeMetricFamily("panoramas_redis_up", "1 when Redis answered this scrape", float(figures is not None))
        if figures is None:
            return
        yield from _job_metrics(figures)
        yield GaugeMetricFamily("panoramas_workers", "Worker processes that are alive", figures.workers)
        out = "Worker processes that are alive and take no jobs for now: loading, or their device or store fails"
        yield GaugeMetricFamily("panoramas_workers_out", out, figures.workers_out)
        kept = "Painted pictures on the disks of workers whose image store fails"
        yield GaugeMetricFamily("panoramas_pictures_kept", kept, figures.pictures_kept)
        for name, (metric, text, label) in _HISTOGRAMS.items():
            family = HistogramMetricFamily(metric, text, labels=[label] if label else [])
            for histogram in figures.histograms:
                if histogram.name == name:
                    buckets = [(bound.replace("inf", "+Inf"), count) for bound, count in histogram.cumulative]
                    family.add_metric([histogram.label] if label else [], buckets, histogram.sum)
            yield family
        yield _memory_metrics(figures)
        yield from _webhook_metrics(figures)


def _job_metrics(figures: Figures) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("panoramas_queue_depth", "Jobs that wait", labels=["priority"])
    for priority, depth in figures.waiting.items():
        waiting.add_metric([priority], depth)
    yield waiting
    oldest = "Waiting time of the job that has waited longest; 0 when none waits"
    yield GaugeMetricFamily("panoramas_queue_oldest_seconds", oldest, figures.oldest_seconds)
    jobs = GaugeMetricFamily("panoramas_jobs", "Jobs that are kept", labels=["state"])
    for state, count in figures.jobs.items():
        jobs.add_metric([state], count)
    yield jobs
    yield CounterMetricFamily("panoramas_jobs_submitted", "Jobs ever accepted", figures.submitted)
    ended = CounterMetricFamily("panoramas_jobs_ended", "Jobs that ever ended", labels=["state"])
    for name, count in figures.ended.items():
        ended.add_metric([name], count)
    yield ended


def _memory_metrics(figures: Figures) -> Metric:
    family = GaugeMetricFamily(
        "panoramas_gpu_memory_bytes", "Memory of a worker's GPU, as last reported", labels=["worker", "device", "kind"]
    )
    for worker, memory in sorted(figures.memory.items()):
        for kind in ("allocated", "reserved", "peak", "total"):
            if kind in memory:
                family.add_metric([worker, str(memory.get("device", "")), kind], memory[kind])
    return family


def _webhook_metrics(figures: Figures) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "panoramas_webhooks_pending",
        "Webhook calls that are due or will be tried again",
        figures.calls.get("pending", 0),
    )
    late = "Delay of the webhook call that is overdue longest; 0 when none is overdue"
    yield GaugeMetricFamily("panoramas_webhook_late_seconds", late, figures.calls_late_seconds)
    calls = CounterMetricFamily("panoramas_webhook_calls", "Webhook calls by outcome, ever", labels=["outcome"])
    for outcome in OUTCOMES:
        calls.add_metric([outcome], figures.calls.get(outcome, 0))
    yield calls


def render_metrics(own: RequestMetrics, figures: Figures | None, accept: str) -> tuple[bytes, str]:
    """The metrics and their media type: OpenMetrics when `accept` asks for it, else Prometheus's text format."""
    encode, media_type = choose_encoder(accept)
    return encode(_Collector(figures, own)), media_type
