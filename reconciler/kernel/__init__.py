"""The only code that touches device-mapper, loops, udev, mkfs and the thin-provisioning tools."""
