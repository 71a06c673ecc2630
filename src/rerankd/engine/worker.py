"""A thread that does its work until it is closed; if it dies of something instead, another one takes its place."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

REVIVAL = 1.0
"""Seconds between a worker's death and the next one's start."""

log = logging.getLogger("rerankd.engine")


class Worker:
    """Runs `work`, which returns once the worker is being closed, on a thread called `name`.

    When the thread ends in any other way `died` is called, on another thread and before `work` runs again.
    """

    def __init__(self, name: str, work: Callable[[], None], died: Callable[[], None]) -> None:
        self._name = name
        self._work = work
        self._died = died
        self._closing = threading.Event()
        self._thread = self._start()
        self._watcher = threading.Thread(target=self._watch, name=f"{name}-watch", daemon=True)
        self._watcher.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self, patience: float) -> bool:
        """Wait `patience` seconds for the work to return; whether it has. No other thread is started from now on."""
        self._closing.set()
        self._watcher.join(patience)
        return not self._watcher.is_alive()

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._live, name=self._name, daemon=True)
        thread.start()
        return thread

    def _live(self) -> None:
        self._thread = threading.current_thread()  # before it works, so that nobody sees it work and be dead
        try:
            self._work()
        except BaseException as cause:
            log.critical("%s died; what it was working on fails, and it is started again", self._name, exc_info=True)
            cause.__traceback__ = None  # its frames hold what it was working on

    def _watch(self) -> None:
        """A thread of its own, so that nothing that happens on the other one can keep it from being missed."""
        self._thread.join()
        while not self._closing.is_set():
            try:
                self._died()
                if not self._closing.wait(REVIVAL):
                    self._thread = self._start()
            except Exception:
                log.critical("%s could not be started again yet", self._name, exc_info=True)
                self._closing.wait(REVIVAL)
            self._thread.join()
