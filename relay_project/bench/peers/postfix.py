"""A private Postfix on loopback: its own folders, port and log, beside and without touching the system's instance.

    with Postfix(folder, {"default_transport": "discard:"}) as postfix:
        ... ("127.0.0.1", postfix.port) ...; postfix.log_text()

It takes mail for any domain from loopback. Postfix changes to accounts of its own (postfix, postdrop), so this needs
root, the Debian package `postfix` and nothing of its configuration. It is ended by the pid of its master.
"""

import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from relay_project.bench.peers.child import Peer
from relay_project.db.child import last_lines, open_log, tethered
from relay_project.quickstart.ports import LOOPBACK, choose_ports

ACCOUNT = "postfix"  # made by the package
POST_GROUP = "postdrop"
DAEMONS = Path("/usr/lib/postfix/sbin")
START_SECONDS = 20.0
POLL_SECONDS = 0.05
QUEUE_FOLDERS = (
    *("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"),
)
# service, type, private, wake-up, processes, command: master(5); nothing is chrooted
SERVICES = """\
{address}:{port} inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n -  0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n -  - trivial-rewrite
bounce    unix  - - n -  0 bounce
defer     unix  - - n -  0 bounce
trace     unix  - - n -  0 bounce
verify    unix  - - n -  1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -  - proxymap
smtp      unix  - - n -  - smtp
relay     unix  - - n -  - smtp
showq     unix  n - n -  - showq
error     unix  - - n -  - error
retry     unix  - - n -  - error
discard   unix  - - n -  - discard
anvil     unix  - - n -  1 anvil
scache    unix  - - n -  1 scache
postlog   unix-dgram n - n - 1 postlogd
"""


class PeerError(RuntimeError):
    """The peer cannot be had on this machine; the message is one sentence that says why."""


def why_not() -> str | None:
    """Why Postfix cannot run here, as a sentence; None when it can."""
    if not (DAEMONS / "master").exists() or shutil.which("postconf") is None:
        return "Postfix is not installed (Debian: apt-get install postfix)."
    if os.geteuid() != 0:
        return "Postfix needs root, to change to the accounts that its package made."
    return None


class Postfix(Peer):
    """One instance, as a context. `settings` are lines of main.cf (postconf(5)) over the ones given here."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None, *, port: int = 0) -> None:
        """Choose the places; nothing is written yet. `folder` must not exist, and others must be able to enter its parents.

        Raises PeerError where Postfix cannot run.
        """
        if reason := why_not():
            raise PeerError(reason)
        self.folder = folder
        self.port = port or choose_ports({"postfix": 0})["postfix"]
        self.log = folder / "log" / "postfix.log"
        self._out = folder / "log" / "master.out"
        self._settings = {**self._base(), **(settings or {})}

    def log_text(self) -> str:
        """All that it has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self) -> None:
        """Write its folders, start it and return when it listens; raises PeerError with its last words."""
        self._make_folders()
        self._write_configuration()
        with open_log(self._out) as out:
            self._process = subprocess.Popen(  # noqa: S603 - the package's own program
                tethered([str(DAEMONS / "master"), "-s", "-c", str(self.folder / "etc")], sign=signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
                start_new_session=True,
            )
        self._await_greeting()

    def _base(self) -> dict[str, str]:
        """An instance that takes mail for any domain from loopback and asks nobody but the operator's settings."""
        return {
            "compatibility_level": "3.6",
            "queue_directory": str(self.folder / "queue"),
            "data_directory": str(self.folder / "data"),
            "daemon_directory": str(DAEMONS),
            "maillog_file": str(self.log),
            "maillog_file_prefixes": str(self.folder),
            "myhostname": "peer.postfix.test",  # RFC 6761: .test never leaves the machine
            "mydestination": "",
            "inet_interfaces": LOOPBACK,
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "smtpd_peername_lookup": "no",
            "smtp_dns_support_level": "disabled",
            "alias_maps": "",
            "alias_database": "",
            "local_recipient_maps": "",
            "import_environment": "MAIL_CONFIG TZ LANG=C",
        }

    def _make_folders(self) -> None:
        """The queue as postfix-script(1) would make it, owned as the daemons expect it."""
        account, group = pwd.getpwnam(ACCOUNT), grp.getgrnam(POST_GROUP).gr_gid
        queue = self.folder / "queue"
        for folder in (self.folder, queue, queue / "pid", self.folder / "etc", self.folder / "log"):
            folder.mkdir(mode=0o755)
        for folder in (self.folder / "data", *(queue / name for name in QUEUE_FOLDERS)):
            folder.mkdir(mode=0o700)
            os.chown(folder, account.pw_uid, -1)
        for folder, mode in ((queue / "maildrop", 0o1730), (queue / "public", 0o2710)):
            folder.mkdir()
            os.chown(folder, account.pw_uid, group)
            folder.chmod(mode)

    def _write_configuration(self) -> None:
        etc = self.folder / "etc"
        lines = (f"{name} = {value}\n" for name, value in self._settings.items())
        (etc / "main.cf").write_text("".join(lines), encoding="utf-8")
        services = SERVICES.format(address=LOOPBACK, port=self.port)
        (etc / "master.cf").write_text(services, encoding="utf-8")

    def _await_greeting(self) -> None:
        """Wait until it says 220."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            try:
                with socket.create_connection((LOOPBACK, self.port), timeout=2.0) as line:
                    if line.recv(512).startswith(b"220"):
                        return
            except OSError:
                time.sleep(POLL_SECONDS)
        words = " | ".join([*last_lines(self._out, 2), *last_lines(self.log, 3)]) or "nothing"
        self.stop()
        raise PeerError(f"Postfix did not start, and wrote: {words}")
