"""Device-mapper through libdevmapper, the library that dmsetup itself uses.

`library` declares and binds the C functions, `task` makes one ioctl and waits for udev, and `device_mapper` has the
calls of the protocol. This package makes no decisions, never retries, and does not read message texts.
"""
