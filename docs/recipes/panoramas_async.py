"""Python with asyncio: one prompt with several seeds at the same time.

PANORAMAS_URL=http://127.0.0.1:8000 PANORAMAS_API_KEY=... python panoramas_async.py "a harbour at night" 3 folder
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from panoramas import AsyncClient


async def main(prompt: str, count: str, folder: str) -> None:
    async with AsyncClient() as client, asyncio.TaskGroup() as tasks:
        for seed in range(int(count)):
            tasks.create_task(paint(client, prompt, seed, Path(folder)))


async def paint(client: AsyncClient, prompt: str, seed: int, folder: Path) -> None:
    picture = await client.generate(prompt, width=1024, height=512, seed=seed)
    print(picture.save(folder / f"{seed}.png"))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
