"""What `benchmarks.api` compares the API with: FastAPI with one Redis call per request, and nothing else."""

from __future__ import annotations

import sys
import uuid
from typing import Any

import uvicorn
from fastapi import FastAPI
from redis.asyncio import Redis

redis = Redis.from_url(sys.argv[1], decode_responses=True)
app = FastAPI(openapi_url=None)


@app.post("/panoramas", status_code=202)
async def submit(body: dict[str, Any]) -> dict[str, Any]:
    """Write once."""
    name = uuid.uuid4().hex
    await redis.set(f"minimal:{name}", body["prompt"])
    return {"id": name}


@app.get("/jobs/{job_id}")
async def look(job_id: str) -> dict[str, Any]:
    """Read once."""
    return {"id": job_id, "prompt": await redis.get(f"minimal:{job_id}")}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="error", access_log=False)
