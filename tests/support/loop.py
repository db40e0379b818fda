"""Origins of the service, in an event loop of their own beside the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Loop:
    """An event loop in a thread, for `with`. What it runs is cancelled at the end."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._threads = ThreadPoolExecutor(4)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._threads.shutdown()
        self._loop.close()

    def do(self, coroutine: Coroutine[Any, Any, T], seconds: float = 20) -> T:
        """Runs a coroutine there and returns its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(seconds)

    def call(self, work: Callable[[], T]) -> T:
        """Calls a function there."""

        async def calling() -> T:
            return work()

        return self.do(calling())

    def work(self, blocking: Callable[[], T]) -> Awaitable[T]:
        """A worker as `service.context` wants it."""
        return self._loop.run_in_executor(self._threads, blocking)

    async def _end(self) -> None:
        mine = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not mine]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
