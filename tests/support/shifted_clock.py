"""A wall clock for processes that tests start, ahead of the machine's by as much as the test says, at any time.

clock = ShiftedClock.made()
subprocess.Popen(command, env=os.environ | clock.env)
clock.shift(3600)
"""

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
NO_COMPILER = "no C compiler here, so that the clock of a process cannot be shifted"


@dataclass(frozen=True, kw_only=True)
class ShiftedClock:
    """One shift for all processes that have `env` in their environment, whoever runs them."""

    folder: Path

    @classmethod
    @contextmanager
    def made(cls) -> Iterator["ShiftedClock | None"]:
        """A clock that is right as yet; None where there is no C compiler."""
        with tempfile.TemporaryDirectory(prefix="penstock-clock-") as name:
            clock = cls(folder=Path(name))
            clock.folder.chmod(0o755)
            clock.shift(0)
            yield clock if clock._is_compiled() else None

    @property
    def env(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "PENSTOCK_TEST_CLOCK": str(self._file)}

    @property
    def now(self) -> datetime:
        """What the processes take the time to be."""
        return datetime.now(UTC) + timedelta(seconds=self._read())

    def shift(self, seconds: int) -> None:
        """Be so far ahead of the machine from now on."""
        with self._file.open("r+b" if self._file.exists() else "wb", buffering=0) as file:
            file.write(struct.pack("@l", seconds))

    def be_at_least(self, moment: datetime) -> None:
        """Jump forward to this moment, where it has not come yet."""
        ahead = (moment - datetime.now(UTC)).total_seconds()
        self.shift(max(self._read(), int(ahead) + 1))

    def _read(self) -> int:
        [seconds] = struct.unpack("@l", self._file.read_bytes())
        return int(seconds)

    def _is_compiled(self) -> bool:
        compiler = shutil.which("cc")
        if compiler is None:
            return False
        words = [compiler, "-shared", "-fPIC", "-o", str(self._library), str(SOURCE), "-ldl"]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    @property
    def _library(self) -> Path:
        return self.folder / "shifted_clock.so"

    @property
    def _file(self) -> Path:
        return self.folder / "shift"
