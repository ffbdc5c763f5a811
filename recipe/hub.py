"""The Hugging Face hub: the small files of a repository in about a second, its weights when they are needed.

Everything lies in the hub's own cache, where other programs find it as well; what is there is not asked for again.
`HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE` hold as everywhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from recipe.configs import CONFIG_FILES, INDEX, read_configs
from recipe.errors import ModelError
from recipe.weights import choose

T = TypeVar("T")

# A hub that does not begin to answer is as good as none; the small files of a model take a second in all.
_ANSWER_SECONDS, _SMALL_FILES_SECONDS = 3.0, 8.0
# So long what failed is not tried again: each request for such a model would wait for it.
_PAUSE_SECONDS = 30.0


class HubUnreachable(ModelError):
    """No answer from the hub, for a `reason`, and nothing in the cache."""

    def __init__(self, repository: str, reason: str) -> None:
        super().__init__(f"the hub cannot be reached, and {repository} is not cached whole: {reason}")
        self.reason = reason


_failures: dict[str, tuple[float, ModelError]] = {}
_fetching = threading.Lock()


def config_folder(repository: str, revision: str | None) -> Path:
    """The folder with the small files of a repository, all of one commit: from the cache, else fetched.

    Raises:
        HubUnreachable: when they are not cached and the hub does not answer.
        ModelError: when there is no such repository or revision, or it holds no model.
    """
    if folder := _cached(repository, revision):
        return folder
    with _fetching:
        if folder := _cached(repository, revision):
            return folder
        _raise_recent_failure(repository, revision)
        try:
            return _within(repository, lambda: _fetch_configs(repository, revision))
        except ModelError as error:
            key = "" if isinstance(error, HubUnreachable) else f"{repository}@{revision}"
            _failures[key] = (time.monotonic(), error)
            raise


def list_files(repository: str, commit: str) -> list[str]:
    """Names of all files of a commit.

    Raises:
        HubUnreachable, ModelError
    """
    info = _asked(repository, commit)
    return [file.rfilename for file in info.siblings or ()]


def download(repository: str, revision: str | None, files: Collection[str]) -> Path:
    """Fetch what is not yet cached of `files`, all of one commit, however long it takes; the commit's folder.

    Raises:
        ModelError
    """
    from huggingface_hub import snapshot_download

    return Path(
        _called(repository, lambda: snapshot_download(repository, revision=revision, allow_patterns=list(files)))
    )


def _cached(repository: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    try:
        index = try_to_load_from_cache(repository, INDEX, revision=revision)
    except ValueError as error:
        raise ModelError(f"{repository!r} is no name of a hub repository: {error}") from error
    if not isinstance(index, str):
        return None
    folder = Path(index).parent
    configs = read_configs(folder)
    named = (name for name in CONFIG_FILES if configs.class_of(name))
    return folder if all(name in configs.components for name in named) else None


def _fetch_configs(repository: str, revision: str | None) -> Path:
    info = _asked(repository, revision)
    names = [file.rfilename for file in info.siblings or ()]
    if INDEX not in names:
        single = next((name for name in names if name.endswith(".safetensors") and "/" not in name), None)
        remedy = f"; fetch its file {single} and give the file's path" if single else ""
        raise ModelError(f"{repository} has no {INDEX}: it is no model in diffusers' component layout{remedy}")
    # By the revision's name: the cache then knows which commit a branch was at.
    folder = download(repository, revision, [name for name in names if name in (INDEX, *CONFIG_FILES.values())])
    choose(names, read_configs(folder))  # refuses what is there as pickles alone
    return folder


def _asked(repository: str, revision: str | None) -> Any:
    from huggingface_hub import HfApi

    return _called(repository, lambda: HfApi().model_info(repository, revision=revision, timeout=_ANSWER_SECONDS))


def _called(repository: str, call: Callable[[], T]) -> T:
    """A call of huggingface_hub, with its errors as ours."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return call()
    except GatedRepoError as error:
        raise ModelError(
            f"{repository} is gated: accept its conditions on its page at the hub, and set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no repository {repository}; if it is private, set HF_TOKEN") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"the hub's repository {repository} has no such revision: {_line(error)}") from error
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code < 500 and error.response.status_code != 429:
            raise ModelError(f"the hub refuses {repository}: {_line(error)}") from error
        raise HubUnreachable(repository, _line(error)) from error
    except LocalEntryNotFoundError as error:
        raise HubUnreachable(repository, _line(error)) from error
    except ValueError as error:
        raise ModelError(f"{repository} cannot be had from the hub: {_line(error)}") from error
    except Exception as error:  # those of the HTTP library, of which huggingface_hub has had three
        raise HubUnreachable(repository, _line(error)) from error


def _line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _raise_recent_failure(repository: str, revision: str | None) -> None:
    for key in (f"{repository}@{revision}", ""):
        at, error = _failures.get(key, (float("-inf"), None))
        if error and time.monotonic() - at < _PAUSE_SECONDS:
            if isinstance(error, HubUnreachable):
                raise HubUnreachable(repository, f"it did not answer a moment ago ({error.reason})")
            raise ModelError(str(error))


def _within(repository: str, call: Callable[[], T]) -> T:
    """Give up after `_SMALL_FILES_SECONDS`: what huggingface_hub tries, and how often, has no limit of its own.

    In a thread, because a name server that does not answer is bound by no setting.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            with _requests_end_by(time.monotonic() + _SMALL_FILES_SECONDS):
                results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="hub", daemon=True)
    thread.start()
    thread.join(_SMALL_FILES_SECONDS)
    if errors:
        raise errors[0]
    if not results:
        raise HubUnreachable(repository, f"it did not send the small files within {_SMALL_FILES_SECONDS:g} seconds")
    return results[0]


@contextmanager
def _requests_end_by(deadline: float) -> Iterator[None]:
    """Meanwhile each request of huggingface_hub gets a short limit, and those after `deadline` fail at once.

    Without this its own threads would go on trying for minutes, and the process could not end.
    """
    from huggingface_hub import close_session, get_session

    def limit(request: Any) -> None:
        if time.monotonic() > deadline:
            raise TimeoutError("the time for small files is up")
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), _ANSWER_SECONDS)

    client = get_session()
    client.event_hooks = {**client.event_hooks, "request": [*client.event_hooks["request"], limit]}
    try:
        yield
    finally:
        close_session()  # the next request makes a client without the limit
