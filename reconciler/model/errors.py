"""Errors of the host, typed by what they ask for."""

from __future__ import annotations

import errno


class HostError(Exception):  # "fault" is what it is: of the host, not of a caller
    """Something on the host did not work: what, on which object, with which errno."""

    def __init__(self, operation: str, subject: str, number: int = 0, detail: str = "") -> None:
        super().__init__(operation, subject, number, detail)
        self.operation = operation
        self.subject = subject
        self.errno = number
        self.detail = detail

    @property
    def code(self) -> str:
        """`EBUSY`, or empty where there was no errno."""
        return errno.errorcode.get(self.errno, str(self.errno)) if self.errno else ""

    def __str__(self) -> str:
        said = f": {self.detail}" if self.detail else ""
        code = f" ({self.code})" if self.code else ""
        return f"{self.operation} {self.subject} failed{code}{said}"


class VerificationError(HostError):
    """The kernel said OK, and a look afterwards shows that it did not happen."""


class WorkerTimeoutError(HostError):
    """No answer within the deadline: the call may still be going on."""


class WorkerDiedError(HostError):
    """The worker ended before it answered: what it was asked may have been done, wholly or in part."""


class UnreleasedError(HostError):
    """Thin ids could not be read, and the metadata snapshot that was reserved for that may still be held."""


class NothingDoneError(HostError):
    """There was nothing that the step could do, and what it is for is not so."""


class PreconditionError(HostError):
    """The last look before it showed that the step must not be begun: nothing was done."""


def answers_message(fault: HostError, number: int) -> bool:
    """Whether the pool itself has said so, of what is in its metadata: the calls around a message may fail alike."""
    return fault.operation == "message" and fault.errno == number
