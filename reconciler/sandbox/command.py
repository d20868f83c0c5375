"""Runs a command in a sandbox of its own: the one call that others need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reconciler.sandbox.session import Session
from reconciler.sandbox.settings import checked


def run(
    command: Sequence[str] = (),
    *,
    share: Sequence[Path] = (),
    memory: str = "1G",
    disks: Sequence[Path] = (),
    timeout: float | None = None,
    udev: bool = True,
) -> int:
    """Run command as root inside a kernel of its own and return its exit status (128 + N if signal N killed it).

    command: what to run; nothing means an interactive $SHELL. It starts in the caller's working directory with the
      caller's environment, standard streams (terminal, pipe or file, each as it is) and window size.
    share: directories that can be written, at the same path. All other files of the host are there, read-only; /tmp,
      /run, /mnt, /srv, /var/tmp, /var/log and $HOME are empty and writable, /var/lib and /etc/lvm writable with what
      they have; all of that vanishes with the kernel. This keeps mistakes away from the host. It is no wall against
      malice: the kernel is a process of the caller's.
    memory: of the kernel, as 512M or 1G. It is taken as it is used.
    disks: files of the host that are /dev/ubda, /dev/ubdb, ... (at most 8) and outlive the kernel. The end of the
      command is a power cut to them: it syncs what it wants to keep.
    timeout: seconds until the kernel is killed and SandboxError (status 124) raised.
    udev: whether systemd-udevd runs inside.

    The first SIGINT is passed to the command, as are the keys of a terminal. A second one, SIGTERM and SIGHUP kill the
    kernel at once, as a power cut would, and return 128 + N; at that time all its processes are gone, so the disks can
    be given to the next kernel. If the caller is killed with SIGKILL, the kernel follows within milliseconds, but
    nobody waits for that. In a terminal, Ctrl-] three times within a second kills it too.

    Raises SandboxError if the kernel cannot be started or dies; its text is one line with the next step to take.
    """
    return Session(checked(command, share=share, memory=memory, disks=disks, timeout=timeout, udev=udev)).run()
