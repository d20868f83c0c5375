"""What the sandbox raises."""


class SandboxError(Exception):
    """One line: what is wrong, and what to do next. status is what a command line should exit with."""

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
