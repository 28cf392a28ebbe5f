"""OpenDKIM as a milter that signs: a private process on a unix socket, for a private Postfix to ask.

with OpenDkim(folder, domain="sender.test", key_pem=pem) as milter:
    Postfix(…, {"smtpd_milters": milter.address})
"""

import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

from relay_project.bench.peers.child import Peer
from relay_project.bench.peers.postfix import PeerError
from relay_project.db.child import last_lines, open_log, tethered

ACCOUNT = "opendkim"  # made by the package
SELECTOR = "bench"
START_SECONDS = 10.0
POLL_SECONDS = 0.05


def why_not() -> str | None:
    """Why OpenDKIM cannot run here, as a sentence; None when it can."""
    if shutil.which("opendkim", path="/usr/sbin:/usr/bin") is None:
        return "OpenDKIM is not installed (Debian: apt-get install opendkim)."
    if os.geteuid() != 0:
        return "OpenDKIM needs root, to change to the account that its package made."
    return None


class OpenDkim(Peer):
    """One signing process, as a context."""

    def __init__(self, folder: Path, *, domain: str, key_pem: str) -> None:
        """Choose the places; nothing is written yet. `folder` must not exist. Raises PeerError where it cannot run."""
        if reason := why_not():
            raise PeerError(reason)
        self._folder = folder
        self._domain = domain
        self._key_pem = key_pem
        self._socket = folder / "milter"
        self._out = folder / "opendkim.out"

    @property
    def address(self) -> str:
        """Its socket, as Postfix's smtpd_milters wants it."""
        return f"unix:{self._socket}"

    def start(self) -> None:
        """Write the key and the configuration, start it and return when its socket is there."""
        self._write()
        with open_log(self._out) as out:
            self._process = subprocess.Popen(  # noqa: S603 - the package's own program
                tethered(["/usr/sbin/opendkim", "-f", "-x", str(self._folder / "opendkim.conf")], sign=signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._socket.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = " | ".join(last_lines(self._out, 3)) or "nothing"
                self.stop()
                raise PeerError(f"OpenDKIM did not start, and wrote: {words}")
            time.sleep(POLL_SECONDS)

    def _write(self) -> None:
        account = pwd.getpwnam(ACCOUNT)
        self._folder.mkdir(mode=0o755)
        os.chown(self._folder, account.pw_uid, account.pw_gid)  # it makes its socket here
        key = self._folder / "key.pem"
        key.touch(mode=0o600)
        key.write_text(self._key_pem, encoding="ascii")
        os.chown(key, account.pw_uid, account.pw_gid)
        lines = {
            "Mode": "s",
            "Domain": self._domain,
            "Selector": SELECTOR,
            "KeyFile": key,
            "Socket": f"local:{self._socket}",
            "Canonicalization": "relaxed/relaxed",
            "InternalHosts": "127.0.0.1",
            "UserID": ACCOUNT,
            "UMask": "000",  # Postfix's account asks
            "RequireSafeKeys": "no",  # or it refuses every place below a folder that others may write, such as /tmp
            "Syslog": "no",
        }
        text = "".join(f"{name} {value}\n" for name, value in lines.items())
        (self._folder / "opendkim.conf").write_text(text, encoding="utf-8")
