"""Errors of the host, typed by the reaction that they ask for."""

from __future__ import annotations

import errno


class HostError(Exception):  # "fault" is what it is: of the host, not of a caller
    """Something on the host failed: what, on which object, with which errno."""

    def __init__(self, operation: str, subject: str, number: int = 0, detail: str = "") -> None:
        super().__init__(operation, subject, number, detail)
        self.operation = operation
        self.subject = subject
        self.errno = number
        self.detail = detail

    @property
    def code(self) -> str:
        """The name of the errno, such as `EBUSY`; empty if there was no errno."""
        return errno.errorcode.get(self.errno, str(self.errno)) if self.errno else ""

    def __str__(self) -> str:
        said = f": {self.detail}" if self.detail else ""
        code = f" ({self.code})" if self.code else ""
        return f"{self.operation} {self.subject} failed{code}{said}"


class VerificationError(HostError):
    """The kernel reported success, and a later check shows that it did not happen."""


class WorkerTimeoutError(HostError):
    """There was no answer within the deadline; the call may still be going on."""


class WorkerDiedError(HostError):
    """The worker ended before it answered; its work may have been done completely or in part."""


class UnreleasedError(HostError):
    """The thin ids could not be read, and the metadata snapshot that was reserved for it may still be held."""


class NothingDoneError(HostError):
    """There was nothing that the step could do, and its purpose is not fulfilled."""


class PreconditionError(HostError):
    """The last check before the step showed that it must not begin, and nothing was done."""


def answers_message(fault: HostError, number: int) -> bool:
    """Whether the pool itself returned this errno for a message; calls around a message can fail with it as well."""
    return fault.operation == "message" and fault.errno == number
