"""Device-mapper through libdevmapper, the library that dmsetup itself is.

Three layers, as pyudev has them for libudev: `signatures` (what the C functions are), `loader` (finds the library and
binds them), and above these `task` (one ioctl), `cookies` (waiting for udev) and `device_mapper` (the calls of the
protocol). Forbidden inside: decisions, retries, reading message texts.
"""
