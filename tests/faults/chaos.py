"""`python -m tests.faults.chaos`: jobs on real workers that get random signals, and a check of how each job ended.

Like `panoramas up` and Docker, it restarts workers that have ended, and does nothing else for them.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
from redis.exceptions import RedisError

from jobs import keys
from testkit.aof import faults_of, histories
from testkit.fake_model import STEP_SECONDS
from testkit.processes import RedisServer, Stack, model_process_of, running_stack
from testkit.workerless import model_on_paper

PANORAMA = {"prompt": "mountains", "width": 160, "height": 128, "num_inference_steps": 16}
_RUNNING = ("queued", "running")


@dataclass
class Chaos:
    """One run: submits jobs, kills and restarts processes, and waits until every accepted job has ended."""

    stack: Stack
    workers: int
    random: random.Random
    module: str
    pauses: tuple[float, ...]
    accepted: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    over: threading.Event = field(default_factory=threading.Event)

    def submit(self, jobs: int) -> None:
        """Post until `jobs` are accepted, retrying as the answers ask for."""
        with httpx.Client(base_url=self.stack.url, timeout=30) as http:
            while len(self.accepted) < jobs:
                try:
                    response = http.post("/panoramas", json={**PANORAMA, "seed": len(self.accepted)})
                except httpx.TransportError:
                    time.sleep(0.5)
                    continue
                if response.status_code == 202:
                    self.accepted.append(response.json()["id"])
                else:
                    assert response.status_code in (429, 503), response.text
                    assert "retry-after" in response.headers
                    time.sleep(0.5)

    def supervise(self) -> None:
        """Start a new worker for each one that has ended."""
        while not self.over.wait(0.5):
            for process in self._workers():
                if process.poll() is not None:
                    self.stack.processes.remove(process)
                    process.wait()
            for _ in range(self.workers - len(self._workers())):
                self.stack.start_worker(self.module)

    def cause_fault(self) -> None:
        """Cause one random fault, of a worker that runs a job if there is one."""
        alive = [process for process in self._workers() if process.poll() is None]
        if not alive:
            return
        busy = self._busy()
        worker = self.random.choice([process for process in alive if process.pid in busy] or alive)
        model = model_process_of(worker)
        kind, sent, at_model = self.random.choice(
            [
                ("SIGKILL of a worker", signal.SIGKILL, False),
                ("SIGTERM of a worker", signal.SIGTERM, False),
                ("SIGSTOP, SIGCONT of a worker", signal.SIGSTOP, False),
                ("SIGKILL of a model process", signal.SIGKILL, True),
                ("SIGTERM of a model process", signal.SIGTERM, True),
                ("SIGSTOP, SIGCONT of a model process", signal.SIGSTOP, True),
            ]
        )
        victim = psutil.Process(worker.pid) if not at_model else model
        if victim is None:
            return
        try:
            victim.send_signal(sent)
        except psutil.NoSuchProcess:
            return
        self.faults[kind] += 1
        if sent == signal.SIGSTOP:
            threading.Timer(self.random.choice(self.pauses), _resume, [victim]).start()

    def kill_redis(self) -> None:
        self.stack.redis.kill()
        self.faults["kill -9 of the Redis-protocol server"] += 1
        time.sleep(2)
        self.stack.redis.start()

    def states(self) -> Counter[str]:
        with self.stack.redis.client() as redis, redis.pipeline(transaction=False) as pipe:
            for job_id in self.accepted:
                pipe.hget(keys.job(job_id), "state")
            return Counter(str(state) for state in pipe.execute())

    def _busy(self) -> set[int]:
        """Process ids of the workers that run a job, waiting shortly for one."""
        try:
            with self.stack.redis.client() as redis:
                for _ in range(50):
                    names = [str(redis.hget(keys.job(str(job)), "worker")) for job in redis.zrange(keys.RUNNING, 0, -1)]
                    if names:
                        return {int(name.split("-")[-2]) for name in names if "-" in name}
                    time.sleep(0.05)
        except RedisError:
            pass
        return set()

    def _workers(self) -> list[subprocess.Popen[bytes]]:
        return [process for process in self.stack.processes if "worker" in process.args]  # type: ignore[operator]


def _resume(process: psutil.Process) -> None:
    if process.is_running():
        process.send_signal(signal.SIGCONT)


def run(
    *, jobs: int, workers: int, seconds: float, redis_kills: int, seed: int, folder: Path, fake_model: bool = False
) -> dict[str, object]:
    """Returns the rows of the table, for `kept` to check. It does not raise when a job was lost.

    With `fake_model`, model processes have no model and start at once, and leases are short.
    """
    models = model_on_paper(folder) if fake_model else _tiny(folder)
    module, lease = ("testkit.faulty_worker", 2.0) if fake_model else ("panoramas", 10.0)
    redis = RedisServer(folder / "redis", appendfsync="everysec", **{"auto-aof-rewrite-percentage": "0"})
    environment = {"PANORAMAS_LEASE_SECONDS": f"{lease:g}", STEP_SECONDS: "0.05"}
    with running_stack(folder, models, redis=redis, workers=0, **environment) as stack:
        pauses = (lease / 5, lease * 0.6, lease * 1.4)  # shorter and longer than a lease
        chaos = Chaos(stack, workers, random.Random(seed), module, pauses)
        submitting = threading.Thread(target=chaos.submit, args=[jobs], daemon=True)
        supervising = threading.Thread(target=chaos.supervise, daemon=True)
        submitting.start()
        supervising.start()
        start = time.monotonic()
        kills_at = [seconds * (n + 1) / (redis_kills + 1) for n in range(redis_kills)]
        while time.monotonic() - start < seconds:
            time.sleep(chaos.random.uniform(0.05, 0.35) * lease)
            chaos.cause_fault()
            if kills_at and time.monotonic() - start > kills_at[0]:
                kills_at.pop(0)
                chaos.kill_redis()
        submitting.join()
        while_faults = chaos.states()
        while any(chaos.states()[state] for state in _RUNNING) and time.monotonic() - start < seconds + 600:
            time.sleep(1)
        took = time.monotonic() - start
        rows = check(chaos, redis)
        chaos.over.set()
        supervising.join()
    return {
        "jobs accepted": jobs,
        "of them ended while faults went on": sum(
            count for state, count in while_faults.items() if state not in _RUNNING
        ),
        "workers": workers,
        "seconds of faults; until all had ended": f"{seconds:.0f}; {took:.0f}",
        **{f"faults: {kind}": count for kind, count in sorted(chaos.faults.items())},
        **rows,
    }


def _tiny(folder: Path) -> str:
    from testkit.tiny import build_tiny_model  # transformers and diffusers take seconds to import

    return f"tiny={build_tiny_model(folder / 'model', window=16)}"


def check(chaos: Chaos, redis: RedisServer) -> dict[str, object]:
    """How every accepted job ended, by the API, by the bytes of the images, and by the server's append-only file."""
    ends: Counter[str] = Counter()
    again = matching = 0
    with httpx.Client(base_url=chaos.stack.url, timeout=30) as http:
        for job_id in chaos.accepted:
            answer = http.get(f"/jobs/{job_id}")
            job = answer.json() if answer.status_code == 200 else {"state": "lost", "attempt": 0}
            ends[job["state"]] += 1
            again += job["attempt"] > 1
            if job["state"] == "failed":
                print("failed:", job_id, job["error"]["detail"])
            if job["state"] == "succeeded":
                png = http.get(job["result"]["url"]).content
                matching += hashlib.sha256(png).hexdigest() == job["result"]["sha256"]
    entered = histories(redis.folder)
    broken = {job_id: faults for job_id, history in entered.items() if (faults := faults_of(history))}
    for job_id, faults in broken.items():
        print("broken:", job_id, faults)
    return {
        "terminal": sum(ends[state] for state in ("succeeded", "failed", "canceled")),
        "succeeded": ends["succeeded"],
        "failed after every attempt was killed": ends["failed"],
        "lost": len(chaos.accepted) - sum(ends[state] for state in ("succeeded", "failed", "canceled")),
        "begun more than once": again,
        "with two commits": sum(history.count("succeeded") > 1 for history in entered.values()),
        "with a state that went backwards": len(broken),
        "images that match their sha256": f"{matching} of {ends['succeeded']}",
    }


def kept(rows: dict[str, object]) -> bool:
    """Whether every accepted job ended exactly once, with an intact picture if it succeeded."""
    matching, succeeded = str(rows["images that match their sha256"]).split(" of ")
    zeros = ("lost", "with two commits", "with a state that went backwards")
    return rows["terminal"] == rows["jobs accepted"] and matching == succeeded and not any(rows[name] for name in zeros)


def table(rows: dict[str, object], seed: int) -> str:
    """The rows as a Markdown table, with the date and the machine."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    head = f"{datetime.now(UTC):%Y-%m-%d}, {machine}, seed {seed}"
    return "\n".join([f"| {head} | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--redis-kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--fake-model", action="store_true", help="workers whose model processes have no model")
    parser.add_argument("--keep", type=Path, help="folder that keeps the logs; a temporary one otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = options.keep or Path(temporary)
        rows = run(
            jobs=options.jobs,
            workers=options.workers,
            seconds=options.seconds,
            redis_kills=options.redis_kills,
            seed=options.seed,
            folder=folder,
            fake_model=options.fake_model,
        )
    print(table(rows, options.seed))
    return 0 if kept(rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
