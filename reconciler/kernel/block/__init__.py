"""Files, loops and other block devices of the host, asked and changed without device-mapper."""
