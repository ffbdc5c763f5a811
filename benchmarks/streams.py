"""`python -m benchmarks.streams PORT ID...` follows each job by server-sent events until stdin is closed.

It prints `open` once every stream has sent its first event.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop


async def follow(port: int, job_id: str) -> asyncio.Task[None]:
    """Open one stream and read its first event; the returned task reads the others."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await reader.readuntil(b"event: job")

    async def listen() -> None:
        while await reader.read(1 << 16):
            pass
        writer.close()

    return asyncio.create_task(listen())


async def main() -> None:
    port, ids = int(sys.argv[1]), sys.argv[2:]
    streams = await asyncio.gather(*[follow(port, job_id) for job_id in ids])
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    if broken := sum(stream.done() for stream in streams):
        sys.exit(f"{broken} streams ended early")


if __name__ == "__main__":
    uvloop.run(main())
