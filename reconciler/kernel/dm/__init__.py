"""Device-mapper through libdevmapper, the library that dmsetup itself uses.

`library` declares the C functions and binds them, `task` makes one ioctl and waits for udev, and `device_mapper` has the
calls of the protocol. No decision, no retry and no reading of message texts belongs here.
"""
