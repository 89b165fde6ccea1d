"""Runs a command, and ends it before a moment that ``fk lock`` moves on: a program of its own.

``fk lock`` runs this file as a script. It imports the standard library only, has one thread, and
waits for nothing but time, its orders and its command: so the command is ended in time whatever
becomes of ``fk lock``. If that is killed, stopped, or hangs, no later moment arrives here.

    guard.py ORDERS REPORTS GRACE UNTIL COMMAND...

``ORDERS`` and ``REPORTS`` are descriptors of pipes with lines of text. ``UNTIL`` and ``GRACE``: ms;
at ``UNTIL``, by :func:`elapsed`, nothing of the command may be left, and ``GRACE`` before it the
command is asked to end.

====================  ========================================================================
order                 effect
====================  ========================================================================
``until MS``          the moment is this now
``signal N``          send a signal to the command
``end``               ask the command to end now: SIGTERM, and SIGKILL after the grace
``kill``              end it at once: SIGKILL
(the pipe's end)      as ``end``
====================  ========================================================================

====================  ========================================================================
report                meaning
====================  ========================================================================
``failed ERRNO``      the command was not started
``started PID``       it runs, in a process group of this number
``ending``            it was asked to end, by an order or because it is time
``exited STATUS``     nothing of it is left that would have to end; -N: ended by the signal N
====================  ========================================================================

**Invariant.** From ``UNTIL`` on, no process of the command's group executes an instruction, as long
as this process runs. *Argument.* It wakes every :data:`TICK_S`, and what it does in between does
not block; SIGKILL is sent to the group, stopped processes included, and the moment of ``fk lock``
is early by more than a tick. If this process dies, the kernel kills the command's first process
(Linux), and ``fk lock`` the rest of the group. If both stand still, as in a virtual machine that is
paused, the command may run until this process runs again: only the fencing token protects from
that. Processes that left the group (``setsid``) are not ended.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time

TICK_S = 0.1
"""How long a wait may last: waits do not count the time for which the machine slept."""
_PR_SET_PDEATHSIG = 1
_FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""``fk lock`` takes these and orders to send them on: here they would come twice."""


def elapsed() -> int:
    """Milliseconds since some moment, asleep or not; see :mod:`faaskeeper.clocks`."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    if sys.platform == "darwin":
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000_000
    return time.monotonic_ns() // 1_000_000


class _Terminal:
    """The terminal, if standard input and output are it: the command gets it, as from a shell."""

    def __init__(self) -> None:
        self._handle = -1
        if os.isatty(0) and os.isatty(1):
            try:
                self._handle = os.open("/dev/tty", os.O_RDWR)
            except OSError:
                pass  # it is not the one that controls this process
        self.mine = os.getpgrp()

    def give(self, group: int, of: int) -> bool:
        """Give the terminal to a process group if another has it; returns whether it has it now."""
        try:
            if self._handle < 0 or os.tcgetpgrp(self._handle) != of:
                return False
            os.tcsetpgrp(self._handle, group)
        except OSError:
            return False  # the terminal, or the group, is gone
        return True

    @property
    def there(self) -> bool:
        """Whether there is one."""
        return self._handle >= 0


class _Guard:
    def __init__(self, orders: int, reports: int, grace: int, until: int) -> None:
        self._orders = orders
        self._reports = reports
        self._grace = grace
        self._until = until
        self._kill_at: int | None = None
        """When the group is killed; None while the command is not asked to end."""
        self._rest = b""
        self._ordered = True
        """Whether orders may still come."""
        self._continued = False
        self._status: int | None = None
        self._killed = False
        self.terminal = _Terminal()
        self.pid = 0

    def report(self, text: str) -> None:
        try:
            os.write(self._reports, text.encode() + b"\n")
        except BrokenPipeError:
            pass  # fk lock is gone: its orders have ended, too

    # ---- the command -------------------------------------------------------------------

    def start(self, command: list[str], ignored: set[signal.Signals]) -> bool:
        """Start the command; returns whether it was started. ``ignored``: signals that stay so."""
        errors, written = os.pipe()
        libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setpgid(0, 0)
                if libc is not None:
                    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                    if os.getppid() != parent:
                        os._exit(127)
                self.terminal.give(os.getpgrp(), self.terminal.mine)
                for number in set(_OURS) - ignored:
                    signal.signal(number, signal.SIG_DFL)
                os.execvp(command[0], command)
            except OSError as error:
                os.write(written, str(error.errno).encode())
            finally:
                os._exit(127)
        os.close(written)
        failed = os.read(errors, 16)
        os.close(errors)
        if failed:
            os.waitpid(self.pid, 0)
            self.terminal.give(self.terminal.mine, self.pid)
            self.report(f"failed {failed.decode()}")
            return False
        self.report(f"started {self.pid}")
        return True

    def _signal(self, number: int) -> bool:
        """Send a signal to the group; returns whether there is one."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True  # a process that has become another user's
        return True

    def _end(self) -> None:
        if self._kill_at is None:
            self.report("ending")
            self._kill_at = min(elapsed() + self._grace, self._until)
            self._signal(signal.SIGTERM)
            self._signal(signal.SIGCONT)

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._killed = True
        if self._kill_at is None:
            self.report("ending")
            self._kill_at = elapsed()

    def _look_at_the_time(self) -> None:
        now = elapsed()
        if now >= self._until or (self._kill_at is not None and now >= self._kill_at):
            self._kill()
        elif now >= self._until - self._grace:
            self._end()

    # ---- what happens ------------------------------------------------------------------

    def run(self, wake: int) -> None:
        """Guard the command until nothing of it is left. ``wake``: readable after signals."""
        while not self._over():
            self._look_at_the_time()
            if self._continued:  # by fg or bg
                self._continued = False
                self.terminal.give(self.pid, self.terminal.mine)
            waited_for = [wake, self._orders] if self._ordered else [wake]
            ready, _, _ = select.select(waited_for, [], [], TICK_S)
            if wake in ready:
                os.read(wake, 4096)
            if self._orders in ready:
                self._obey()
        self.terminal.give(self.terminal.mine, self.pid)
        self.report(f"exited {self._status}")

    def continued(self) -> None:
        """A SIGCONT has come."""
        self._continued = True

    def _over(self) -> bool:
        """Whether the command has ended, and its group where that has to."""
        while self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid == 0:
                return False
            if os.WIFSTOPPED(status):
                self._stopped()
            else:
                self._status = os.waitstatus_to_exitcode(status)
        # The number of a group is not used again while it has members, so this is the same one.
        return self._kill_at is None or self._killed or not self._signal(0)

    def _stopped(self) -> None:
        """The command is stopped. At a terminal all of this job stops, until the shell continues it."""
        terminal = self.terminal
        if not terminal.there or self._kill_at is not None:
            return
        terminal.give(terminal.mine, self.pid)
        os.killpg(terminal.mine, signal.SIGTSTP)  # this process, too, stops here
        if elapsed() >= self._until - self._grace:
            self._kill()  # not one instruction more
            return
        terminal.give(self.pid, terminal.mine)
        self._signal(signal.SIGCONT)

    def _obey(self) -> None:
        read = os.read(self._orders, 4096)
        if not read:
            self._ordered = False
            self._end()
            return
        *lines, self._rest = (self._rest + read).split(b"\n")
        for line in lines:
            order, _, value = line.decode().partition(" ")
            if order == "until":
                self._until = int(value)
            elif order == "signal":
                self._signal(int(value))
            elif order == "end":
                self._end()
            elif order == "kill":
                self._kill()


_OURS = (*_FORWARDED, signal.SIGCHLD, signal.SIGCONT, signal.SIGTTOU, signal.SIGPIPE, signal.SIGXFSZ)
"""The signals whose handling this process changes; Python itself ignores the last two."""


def main(arguments: list[str]) -> None:
    """Run as a script; see the module's text."""
    orders, reports, grace, until = (int(each) for each in arguments[:4])
    os.set_inheritable(orders, False)
    os.set_inheritable(reports, False)
    ignored = {each for each in _FORWARDED if signal.getsignal(each) is signal.SIG_IGN}
    for each in (*_FORWARDED, signal.SIGTTOU):
        signal.signal(each, signal.SIG_IGN)
    wake, wakes = os.pipe()
    os.set_blocking(wakes, False)
    guard = _Guard(orders, reports, grace, until)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGCONT, lambda number, frame: guard.continued())
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    if guard.start(arguments[4:], ignored):
        guard.run(wake)


if __name__ == "__main__":
    main(sys.argv[1:])
