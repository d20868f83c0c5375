"""A pool and a device in it, as an operator writes them."""

from __future__ import annotations

POOL = """\
apiVersion: dm-reconciler/v1
kind: ThinPool
metadata: {name: tank}
spec:
  data: {file: /srv/d, size: 2GiB}
  metadata: {file: /srv/m, size: 32MiB}
"""
DEVICE = """\
apiVersion: dm-reconciler/v1
kind: ThinDevice
metadata:
  name: app
spec:
  pool: tank
  size: 1GiB
"""
RECORDS = f"{POOL}---\n{DEVICE}"
