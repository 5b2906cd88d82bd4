"""versitygw, a real S3 server over a folder, for tests."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

from pydantic import SecretStr

from services.storage.config import S3Config

ROOT = Path(__file__).resolve().parent.parent.parent
ACCESS, SECRET = "tests", "secret-of-the-tests"


def versitygw_binary() -> Path | None:
    """Where `tools/install_versitygw.sh` puts it, or where VERSITYGW says."""
    named = os.environ.get("VERSITYGW")
    path = Path(named) if named else ROOT / ".cache" / "tools" / "versitygw"
    return path if path.exists() else None


class S3Server:
    """One server process. `stop` may be called twice."""

    def __init__(self, binary: Path, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        for name in ("data", "metadata"):
            (folder / name).mkdir()
        command = [binary, "--access", ACCESS, "--secret", SECRET, "--port", f"127.0.0.1:{self.port}", "--quiet"]
        command += ["posix", "--sidecar", folder / "metadata", folder / "data"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._wait()

    def config(self, bucket: str) -> S3Config:
        return S3Config(f"http://127.0.0.1:{self.port}", bucket, ACCESS, SecretStr(SECRET), timeout=5.0)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)

    def _wait(self) -> None:
        give_up = time.monotonic() + 20
        while time.monotonic() < give_up:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError("versitygw did not start")
