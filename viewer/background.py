"""Work that the window does not wait for: writing files."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from PyQt5.QtCore import QObject, pyqtSignal

from config.errors import LivelocError

logger = logging.getLogger(__name__)


class Background(QObject):
    """Does one thing after the other on threads of its own, and says how each ended."""

    done = pyqtSignal(str, bool)
    """(words for the user, whether it went well), on the window's thread."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._threads: list[threading.Thread] = []
        self._turn = threading.Lock()

    @property
    def busy(self) -> bool:
        """Whether something is being done."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return bool(self._threads)

    def start(self, work: Callable[[], object], words: str) -> None:
        """Do ``work``; ``words`` are told when it is done, its error where it fails."""
        thread = threading.Thread(target=self._do, args=(work, words), name="liveloc-writing")
        self._threads.append(thread)
        thread.start()

    def wait(self) -> None:
        """Until everything is done: a half-written file helps nobody."""
        for thread in self._threads:
            thread.join()

    def _do(self, work: Callable[[], object], words: str) -> None:
        try:
            with self._turn:
                work()
        except (LivelocError, OSError, MemoryError) as error:
            self.done.emit(str(error) or type(error).__name__, False)
        except Exception as error:
            logger.exception("writing failed")
            self.done.emit(f"an error in liveloc: {error!r}", False)
        else:
            self.done.emit(words, True)
