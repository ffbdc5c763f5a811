"""Python: one panorama with its progress, and how to handle each kind of error.

PANORAMAS_URL=http://127.0.0.1:8000 PANORAMAS_API_KEY=... python panorama.py "snowy mountains at sunset" panorama.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from panoramas import Client, JobFailed, ServiceError, WaitTimeout


def main(prompt: str, out: str = "panorama.png") -> None:
    with Client() as client:
        try:
            job = client.submit(prompt, width=1024, height=512, metadata={"for": out})
            for seen in client.watch(job):
                print(f"{seen.state}: {seen.progress.fraction:.0%}", file=sys.stderr)
            job = client.wait(job, timeout=600)
        except ServiceError as error:  # refused, or unreachable for longer than the client's patience
            for fault in error.errors:
                print(f"{fault.pointer}: {fault.detail}", file=sys.stderr)
            raise SystemExit(f"not accepted: {error}") from error
        except JobFailed as error:
            raise SystemExit(f"not painted: {error}") from error
        except WaitTimeout as error:
            raise SystemExit(f"not yet: job {error.job.id} continues") from error
        Path(out).write_bytes(client.image(job))
        Path(out).with_suffix(".webp").write_bytes(client.image(job, format="webp"))


if __name__ == "__main__":
    main(*sys.argv[1:])
