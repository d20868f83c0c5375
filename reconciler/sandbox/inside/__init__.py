"""What runs inside the kernel, as its first process. Standard library only; each import costs milliseconds there."""
